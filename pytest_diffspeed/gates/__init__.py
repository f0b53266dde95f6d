"""Gates: each turns evidence into a verdict.  :mod:`.catalog` has one file per assertion."""
