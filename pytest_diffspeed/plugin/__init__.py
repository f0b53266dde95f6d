"""What pytest loads: hooks, options, fixtures, and when gates run."""
