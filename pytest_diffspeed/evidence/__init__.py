"""What was measured for which tree: a FAIL stays one until somebody asks for another attempt."""
