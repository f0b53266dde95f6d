"""Records: the append-only journal of what was measured."""
