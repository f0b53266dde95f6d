"""Techniques: named optimizations, the stacks they form, how one is applied and proven."""
