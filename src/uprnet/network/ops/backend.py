"""The one place that picks an implementation of an operator.

``kernel`` is a compiled kernel for the tensor's device (numba on the CPU), ``torch`` the plain-torch definition.
Kernels take every floating type; half precision is computed in float32.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Literal

from torch import Tensor

Backend = Literal["kernel", "torch"]

_KERNEL_DEVICES = frozenset({"cpu"})

_chosen: ContextVar[Backend | None] = ContextVar("uprnet_backend", default=None)


def backend_for(tensor: Tensor) -> Backend:
    """Return the implementation that an operator uses for ``tensor``."""
    chosen = _chosen.get()
    if chosen is not None:
        return chosen
    return "kernel" if tensor.device.type in _KERNEL_DEVICES else "torch"


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
