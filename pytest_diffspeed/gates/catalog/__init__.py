"""One file per assertion, found by its being there."""
