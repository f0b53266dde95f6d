"""Where pipelines come from, the demo pipeline, and the inputs of one call."""
