"""One file per family of techniques.  Each has a ``TECHNIQUES`` tuple and imports torch lazily."""
