"""The same claims against the base, for the same stack."""
