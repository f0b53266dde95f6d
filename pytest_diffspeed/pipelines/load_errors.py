"""What went wrong while a pipeline was loaded, in one sentence with a next step."""

from __future__ import annotations

from ..common.text import first_line


def explain_load_error(error: Exception, next_step: str = "") -> str:
    """What went wrong while loading, and what to do next, in one sentence.

    ``next_step`` is for errors of which no more is known than what they say.
    """
    import torch

    # What stands behind the last semicolon of our sentences is taken for what to do.
    message = first_line(error).replace("; ", ", ")
    text = str(error).lower()
    if (
        isinstance(error, (MemoryError, torch.OutOfMemoryError))
        or "can't allocate memory" in text
        or "out of memory" in text
    ):
        return (
            "it does not fit into memory; use a smaller pipeline or size, free the device, or run "
            f"on a machine with more memory ({message})"
        )
    causes = _causes(error)
    if any(type(cause).__name__ in _NO_NETWORK for cause in causes):
        return (
            "the hub cannot be reached and the model is not in the local cache; check the network "
            "and HF_HUB_OFFLINE, or give a local folder"
        )
    if any(type(cause).__name__ in _NO_REPOSITORY for cause in causes):
        return (
            "the hub has no such repository, or it is gated and you are not logged in; check the "
            "spelling, or run `hf auth login`"
        )
    return f"{type(error).__name__}: {message}" + (f"; {next_step}" if next_step else "")


# Names instead of classes: they live in httpx, requests and huggingface_hub, whose versions move.
_NO_NETWORK = frozenset(
    {
        "ConnectError",
        "ConnectTimeout",
        "ConnectionError",
        "LocalEntryNotFoundError",
        "OfflineModeIsEnabled",
        "ProxyError",
        "ReadTimeout",
    }
)
_NO_REPOSITORY = frozenset({"GatedRepoError", "RepositoryNotFoundError", "HFValidationError"})


def _causes(error: BaseException) -> list[BaseException]:
    chain: list[BaseException] = []
    current: BaseException | None = error
    while current is not None and current not in chain:
        chain.append(current)
        current = current.__cause__ or current.__context__
    return chain
