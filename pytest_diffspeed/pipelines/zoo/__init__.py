"""Small pipelines of most classes of diffusers, with random weights: ``random:<PipelineClass>``.

What a real pipeline does with its components (which run, when, how often, on what shapes) does not
depend on their size, so these stand for the real ones wherever structure is the subject.
"""

from .builder import build, check_name, names
from .recipe import ZooRecipe
from .registry import recipes

__all__ = ["ZooRecipe", "build", "check_name", "names", "recipes"]
