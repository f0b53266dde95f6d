import sys
from pathlib import Path

import pytest
import torch

sys.path.insert(0, str(Path(__file__).parent))  # for `planted`


@pytest.fixture
def fresh_dynamo():
    """No compilation of this test is there for the next one."""
    yield
    torch.compiler.reset()
