"""Host syncs of pipelines, schedulers and callables, on a real GPU or on the simulated one."""
