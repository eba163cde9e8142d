"""The one place that picks an implementation of an operator.

``numba`` is compiled for the CPU by numba, ``triton`` for NVIDIA's and AMD's GPUs, and ``torch`` is the plain-torch
definition, which runs everywhere: on Apple's and Intel's GPUs, and where Triton is missing or fails. All take every
floating type; sums of half precision are kept in float32.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from functools import cache
from importlib.util import find_spec
from typing import Literal

import torch
from torch import Tensor

Backend = Literal["numba", "triton", "torch"]

_chosen: ContextVar[Backend | None] = ContextVar("uprnet_backend", default=None)


def backend_for(tensor: Tensor) -> Backend:
    """Return the implementation that an operator uses for ``tensor``."""
    chosen = _chosen.get()
    if chosen is not None:
        return chosen
    return default_backend(tensor.device)


@cache
def default_backend(device: torch.device) -> Backend:
    """Return the fastest implementation that runs on ``device``."""
    if device.type == "cpu":
        return "numba"
    if device.type == "cuda" and find_spec("triton"):  # AMD's GPUs are called cuda, too
        from uprnet.network.ops import triton  # imports an optional library

        return "triton" if triton.runs_on(device) else "torch"
    return "torch"


def is_plain_call(*tensors: Tensor) -> bool:
    """Return whether nobody watches: no gradient, no compiler. Then a kernel can leave torch's dispatcher out.

    It costs 0.1 ms a call, and the first call imports torch's compiler, which takes longer than torch itself.
    """
    has_gradient = torch.is_grad_enabled() and any(tensor.requires_grad for tensor in tensors)
    are_plain = all(type(tensor) is Tensor and tensor.device.type in ("cpu", "cuda") for tensor in tensors)
    return are_plain and not has_gradient and not torch.compiler.is_compiling()


@contextmanager
def use_backend(backend: Backend) -> Iterator[None]:
    """Use ``backend`` for every operator called inside the ``with`` block, whatever the device.

    Example:
        >>> import torch
        >>> with use_backend("torch"):
        ...     backend_for(torch.zeros(1))
        'torch'
    """
    token = _chosen.set(backend)
    try:
        yield
    finally:
        _chosen.reset(token)
