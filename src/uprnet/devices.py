"""Which device the network runs on."""

from __future__ import annotations

import torch

from uprnet.errors import InvalidInputError


def pick_device(device: str | torch.device = "auto") -> torch.device:
    """Return the torch device that ``device`` names; ``auto`` takes CUDA, then MPS, then the CPU.

    Raises:
        InvalidInputError: If there is no such device here.
    """
    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "mps" if torch.backends.mps.is_available() else "cpu"
    try:
        picked = torch.device(device)
        there = torch.empty(0, device=picked)
        there.cpu()  # what is on "meta" is nowhere
        picked = there.device  # with its number: "cuda" alone is whichever is current
    except (RuntimeError, AssertionError, NotImplementedError, ImportError, TypeError, AttributeError) as error:
        reason = str(error).splitlines()[0]
        raise InvalidInputError(
            f"device must be auto, cpu, cuda or another of torch's here, got {device}: {reason}"
        ) from None
    return picked
