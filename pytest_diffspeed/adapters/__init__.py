"""Private API of other libraries: one file for each, and used nowhere else."""
