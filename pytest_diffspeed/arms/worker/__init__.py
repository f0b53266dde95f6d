"""Arms in worker processes: each is built, compiled and timed in a process of its own."""
