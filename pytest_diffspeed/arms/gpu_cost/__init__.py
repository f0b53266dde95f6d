"""What a pipeline with a stack asks of a GPU, counted in a worker process without one.

The Python of the pipeline and its scheduler really run, on small real tensors on the CPU; each
component has fake CUDA tensors in place of its weights, and is counted when the pipeline calls it.
"""
