"""With which versions tests ran, whole or in part: what errors say when a library has changed.

``docs/versions.md`` has the table; a test holds these words against it.
"""

TORCH = "2.11 to 2.15"
DIFFUSERS = "0.39 to 0.42"
TORCHAO = "0.15 to 0.18"
