"""Reports: what people see.  They read records and nothing else."""
