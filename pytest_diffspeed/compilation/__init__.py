"""What ``torch.compile`` makes of a model: graph breaks, recompilations, what compiling costs.

A library in its own right: it knows torch and dynamo (through the adapter), not pytest, not
diffusers.  ``counts_file`` needs no torch either.
"""
