"""Kinds of devices: which one a session uses, and what differs between them."""
