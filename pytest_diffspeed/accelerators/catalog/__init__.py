"""One file per kind of device that a session can measure on, found by its being there."""
