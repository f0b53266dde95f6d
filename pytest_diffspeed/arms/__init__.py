"""Arms: a pipeline with a stack, built, proven, and ready to be timed or counted."""
