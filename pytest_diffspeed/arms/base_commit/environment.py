"""What an interpreter that is not this one has installed."""

from __future__ import annotations

import json
import os
import subprocess
from typing import Any

from ...common.errors import UsageError
from ...evidence.key import DISTRIBUTIONS
from .variables import of_both

ASK_S = 120.0
NEEDED = ("torch", "diffusers", "pytest")
"""A worker cannot do without them.  This package itself comes from this process."""
_QUESTION = """
import hashlib, importlib.metadata, json, platform, sys
found = {}
for name in sys.argv[1:]:
    try:
        found[name] = importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        found[name] = None
every = {(str(d.metadata["Name"]), str(d.version)) for d in importlib.metadata.distributions()}
found["installed"] = hashlib.sha256(repr(sorted(every)).encode()).hexdigest()[:32]
print(json.dumps({"python": platform.python_version(), **found}))
"""


def versions_of(python: str) -> dict[str, Any]:
    """The versions of Python and of what measurements rest on, as ``python`` sees them.

    ``installed`` is a digest of all that is installed: it differs where any package does.

    Raises:
        UsageError: it is no interpreter that runs, or lacks what a worker needs.
    """
    names = (*DISTRIBUTIONS, *(name for name in NEEDED if name not in DISTRIBUTIONS))
    allowed = of_both(os.environ)
    outside = {name: value for name, value in allowed.items() if not name.startswith("PYTHON")}
    try:
        done = subprocess.run(
            [python, "-c", _QUESTION, *names],
            capture_output=True,
            text=True,
            timeout=ASK_S,
            env=outside,
            check=True,
        )
        found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    except OSError as error:
        raise UsageError(
            f"{python!r} cannot be run ({error.strerror}); give the Python interpreter of an "
            "environment, such as .venv-base/bin/python"
        ) from None
    except (subprocess.SubprocessError, ValueError, IndexError) as error:
        lines = (getattr(error, "stderr", None) or str(error)).strip().splitlines()
        raise UsageError(
            f"{python!r} did not say what it has installed ({lines[-1] if lines else 'nothing'}); "
            "give the Python interpreter of an environment, such as .venv-base/bin/python"
        ) from None
    missing = [name for name in NEEDED if found[name] is None]
    if missing:
        raise UsageError(
            f"the environment of {python!r} has no {', '.join(missing)}, so no pipeline can be "
            f"measured in it; install it with `{python} -m pip install {' '.join(missing)}`"
        )
    return found
