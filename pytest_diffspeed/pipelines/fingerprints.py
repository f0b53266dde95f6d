"""A fingerprint of everything in a pipeline that decides what it draws."""

from __future__ import annotations

import hashlib
import inspect
import json
import os
import pickle
import sys
import uuid
from collections.abc import Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch
    from diffusers import DiffusionPipeline

_PIECE = 2**26
"""Elements that are read at a time, so that a large tensor on a GPU is not copied as a whole."""


def content_fingerprint(pipeline: DiffusionPipeline) -> dict[str, str]:
    """A digest of each component: of *all* bytes of its weights and buffers, the classes of its
    modules, its configuration and, for a tokenizer, its vocabulary.

    Reads everything once, at about 1 GB/s: right for a cache that outlives the session, where
    :func:`~.components.weights_fingerprint` looks at a few values of each tensor.
    """
    digests = {"pipeline": _digest_of(_texts(pipeline, _plain(pipeline.config)))}
    for name, part in sorted(pipeline.components.items()):
        digests[name] = _digest_of(_component(part))
    return digests


def code_fingerprint(pipeline: DiffusionPipeline, also: Iterable[str] = ()) -> dict[str, str]:
    """A digest of each package that classes of the pipeline come from, and of those in ``also``: of
    the path, size and time of change of every Python file.

    A version does not change when somebody edits what was installed with ``pip install -e``. torch,
    whose kernels are compiled, counts by the commit that it was built from; the standard library
    by the version of Python.
    """
    import torch

    packages = {name.partition(".")[0] for name in also} | {
        base.__module__.partition(".")[0]
        for part in (pipeline, *pipeline.components.values())
        for module in (part.modules() if isinstance(part, torch.nn.Module) else (part,))
        for base in type(module).__mro__
    }
    found = {name: _files(name) for name in packages - {"torch"} - sys.stdlib_module_names}
    return {"torch": str(torch.version.git_version), **dict(sorted(found.items()))}


def _files(package: str) -> str:
    module = sys.modules.get(package)
    folders = [*getattr(module, "__path__", ())]
    single = getattr(module, "__file__", None)
    paths = [] if folders or single is None else [single]
    for folder in folders:
        for parent, _, names in os.walk(folder):
            paths += [os.path.join(parent, name) for name in names if name.endswith(".py")]
    lines = []
    for path in sorted(paths):
        about = os.stat(path)
        lines.append(f"{path} {about.st_size} {about.st_mtime_ns}\n".encode())
    return _digest_of(iter(lines))


def value_fingerprint(value: Any) -> Any:
    """An argument of a call as plain data: numbers and texts as they are, the rest as a digest of
    its kind and content (an image's pixels, a tensor's bytes, a function's code).

    What has no content that can be read gets a digest that no other value has, so that no evidence
    is ever taken for that of another input.
    """
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    if isinstance(value, (list, tuple)):
        return [value_fingerprint(one) for one in value]
    if isinstance(value, Mapping):
        return {str(key): value_fingerprint(one) for key, one in value.items()}
    return f"{type(value).__name__} {_digest_of(_content(value))}"


def _content(value: Any) -> Iterator[bytes | memoryview]:
    import numpy as np
    import torch
    from PIL.Image import Image

    if isinstance(value, torch.Tensor):
        yield from _texts(value, f"{value.dtype} {tuple(value.shape)}")
        yield from _bytes_of(value)
    elif isinstance(value, np.ndarray):
        yield from _texts(value, f"{value.dtype} {value.shape}")
        yield value.tobytes()
    elif isinstance(value, Image):
        yield from _texts(value, f"{value.mode} {value.size}")
        yield value.tobytes()
    elif inspect.isfunction(value):
        yield from _texts(value, f"{value.__module__}.{value.__qualname__}")
        yield inspect.getsource(value).encode()
    else:
        yield from _texts(value, "pickled")
        try:
            yield pickle.dumps(value)
        except Exception:
            yield uuid.uuid4().bytes


def _component(part: Any) -> Iterator[bytes | memoryview]:
    import torch

    if part is None:
        yield b"none"
        return
    yield from _texts(part, _plain(getattr(part, "config", None)))
    vocabulary = getattr(part, "get_vocab", None)
    if vocabulary is not None:
        yield from _texts(part, _plain(sorted(vocabulary().items())))
    if isinstance(part, torch.nn.Module):
        for name, module in part.named_modules():
            # Attention processors and the like are attributes, not modules.
            parts = {key: _kind(value) for key, value in sorted(vars(module).items())}
            parts = {key: kind for key, kind in parts.items() if kind.startswith("diffusers")}
            yield from _texts(module, _plain([name, parts, module.training]))
        for name, tensor in (*part.named_parameters(), *part.named_buffers()):
            yield from _texts(part, f"{name} {tensor.dtype} {tuple(tensor.shape)}")
            yield from _bytes_of(tensor)


def _bytes_of(tensor: torch.Tensor) -> Iterator[memoryview]:
    import torch

    flat = tensor.detach().contiguous().reshape(-1)
    for piece in flat.split(_PIECE):
        if piece.numel():
            yield memoryview(piece.view(torch.uint8).cpu().numpy())


def _texts(owner: object, text: str) -> Iterator[bytes]:
    yield f"{_kind(owner)} {len(text)} {text}\n".encode()


def _kind(value: object) -> str:
    return f"{type(value).__module__}.{type(value).__qualname__}"


def _plain(value: Any) -> str:
    """Configurations as text; what is no plain data counts by its class."""
    if hasattr(value, "to_dict"):
        value = value.to_dict()
    return json.dumps(value, sort_keys=True, default=_kind)


def _digest_of(pieces: Iterator[bytes | memoryview] | Iterator[bytes]) -> str:
    digest = hashlib.blake2b(digest_size=16)
    for piece in pieces:
        digest.update(piece)
    return digest.hexdigest()
