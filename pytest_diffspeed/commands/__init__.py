"""``diffspeed …``: one file per command."""
