"""A history as static pages: an overview, and one page a test; no server, no network."""

from .build import Built, build
from .folder import SiteFolder

__all__ = ["Built", "SiteFolder", "build"]
