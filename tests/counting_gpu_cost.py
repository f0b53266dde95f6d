"""Whether the installed torch can count GPU cost; where it cannot it says so, which has a test."""

import pytest
import torch

from pytest_diffspeed.gpucost import torch_private as private

CAN_COUNT = torch.version.cuda is not None and private.VERSION in private.TRIED
WHY_NOT = f"torch {torch.__version__} cannot count GPU cost"
needs_counts = pytest.mark.skipif(not CAN_COUNT, reason=WHY_NOT)
