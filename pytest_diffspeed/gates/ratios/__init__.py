"""Gates on a paired ratio: their marker, their rounds, their result, and their evidence key."""
