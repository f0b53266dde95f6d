"""Private API of torch, diffusers and torchao: one file per library, and used nowhere else."""
