"""Compile functions for this processor, and keep the result on disk."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from numba import njit


def jit(**options: Any) -> Callable[[Any], Any]:
    """Return a decorator: numba's, with the interpreter lock released and the result kept for the next process.

    Numba keeps it beside the module, or in the user's cache folder. Where neither can be written, each process compiles
    anew, which takes seconds.
    """

    def compiled(function: Any) -> Any:
        try:
            return njit(nogil=True, cache=True, **options)(function)
        except RuntimeError:  # no folder to keep it in
            return njit(nogil=True, **options)(function)

    return compiled
