"""Which environment variables the workers of a comparison with a base are given.

Those of CI jobs hold secrets, and another commit's code has no business with them.  Both arms get
the same ones: a variable that only one of them saw could decide the ratio.
"""

from __future__ import annotations

import fnmatch
import getpass
import os
import re
import tempfile
from collections.abc import Mapping, Sequence

ALLOWED = (
    # the machine and the user
    *("PATH", "HOME", "USER", "LOGNAME", "SHELL", "LANG", "LANGUAGE", "LC_*", "TZ", "TERM"),
    *("TMPDIR", "TEMP", "TMP", "XDG_*", "LD_LIBRARY_PATH", "LD_PRELOAD", "VIRTUAL_ENV", "CONDA_*"),
    *("SYSTEMROOT", "COMSPEC", "PATHEXT", "APPDATA", "LOCALAPPDATA", "USERPROFILE", "PROGRAM*"),
    *("NUMBER_OF_PROCESSORS", "PYTHON*", "CC", "CXX", "CFLAGS", "CXXFLAGS"),
    # what decides how fast a call is
    *("CUDA_*", "NVIDIA_*", "NCCL_*", "CUBLAS_*", "CUDNN_*", "HIP_*", "ROCR_*", "ROCM_*", "HSA_*"),
    *("OMP_*", "GOMP_*", "KMP_*", "MKL_*", "OPENBLAS_*", "DNNL_*", "ONEDNN_*", "MALLOC_*"),
    *("TORCH*", "PYTORCH_*", "TRITON_*", "DIFFUSERS_*", "TOKENIZERS_*", "SAFETENSORS_*"),
    # where models lie
    *("HF_HOME", "HF_HUB_CACHE", "HF_HUB_OFFLINE", "HF_ENDPOINT", "HF_HUB_*", "TRANSFORMERS_*"),
    *("HUGGINGFACE_HUB_CACHE", "SSL_CERT_FILE", "SSL_CERT_DIR", "REQUESTS_CA_BUNDLE"),
)
"""Names, and patterns of names.  Proxies are not among them: their addresses hold passwords."""
SECRET = re.compile(r"TOKEN(?!IZERS)|SECRET|PASSW|CREDENTIAL|API_?KEY|PRIVATE|AUTH")
"""In a name that a pattern lets through: it stays behind all the same."""
_INDUCTOR = "TORCHINDUCTOR_CACHE_DIR"


def of_both(environment: Mapping[str, str], more: Sequence[str] = ()) -> dict[str, str]:
    """What both arms may see; ``more`` are names and patterns that the user lets through."""
    return {
        name: value
        for name, value in environment.items()
        if _matches(name, more) or (_matches(name, ALLOWED) and not SECRET.search(name.upper()))
    }


def of_base(environment: Mapping[str, str], more: Sequence[str] = ()) -> dict[str, str]:
    """What the base's workers see, with a folder of their own for what inductor compiles: code
    that they leave there is never run by this tree.
    """
    found = of_both(environment, more)
    found[_INDUCTOR] = f"{environment.get(_INDUCTOR) or _default_cache()}-base"
    found.pop("TRITON_CACHE_DIR", None)  # inductor has triton's lie in its own folder
    return found


def _matches(name: str, patterns: Sequence[str]) -> bool:
    return any(fnmatch.fnmatchcase(name.upper(), pattern.upper()) for pattern in patterns)


def _default_cache() -> str:
    """Where inductor keeps it if nobody says so (torch 2.11 to 2.14)."""
    user = re.sub(r'[\\/:*?"<>|]', "_", getpass.getuser())
    return os.path.join(tempfile.gettempdir(), f"torchinductor_{user}")
