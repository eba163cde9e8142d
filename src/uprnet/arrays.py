"""What an image may be as an array, numpy or torch, and what it must be like.

Convention:
    numpy images are ``(H, W, 3)`` RGB or ``(H, W, 4)`` RGBA; torch images are ``(C, H, W)`` or ``(B, C, H, W)``.
    Integers span their type's range, floats are in [0, 1].
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from uprnet.errors import InvalidInputError

#: Height and width, in pixels, that an image must have at least.
MIN_SIDE = 16


def channels_of(image: NDArray[Any] | Tensor) -> int:
    """Give the number of channels."""
    return image.shape[-3] if isinstance(image, Tensor) else image.shape[-1]


def size_of(image: NDArray[Any] | Tensor) -> tuple[int, int]:
    """Give height and width."""
    height, width = image.shape[-2:] if isinstance(image, Tensor) else image.shape[:2]
    return height, width


def check_alike(img0: Any, img1: Any) -> None:
    """Refuse two things that are not images of one size and type.

    Raises:
        InvalidInputError: In one line: what was needed, and what came.
    """
    for name, image in (("img0", img0), ("img1", img1)):
        shape = tuple(getattr(image, "shape", ()))
        if isinstance(image, Tensor):
            good = image.ndim in (3, 4) and shape[-3] in (3, 4) and shape[0] > 0
        else:
            good = isinstance(image, np.ndarray) and image.ndim == 3 and shape[2] in (3, 4)
        if not good:
            raise InvalidInputError(
                f"{name} must be a numpy array (H, W, 3 or 4) or a torch tensor (3 or 4, H, W), "
                f"got {type(image).__name__} {shape}"
            )
        if min(size_of(image)) < MIN_SIDE:
            raise InvalidInputError(f"{name} must be at least {MIN_SIDE} x {MIN_SIDE} pixels, got {size_of(image)}")
    if size_of(img0) != size_of(img1):
        raise InvalidInputError(f"img0 and img1 must have the same size, got {size_of(img0)} and {size_of(img1)}")
    if isinstance(img0, Tensor) != isinstance(img1, Tensor) or img0.shape != img1.shape or img0.dtype != img1.dtype:
        raise InvalidInputError(
            f"img0 and img1 must be alike, got {img0.dtype} {tuple(img0.shape)} and {img1.dtype} {tuple(img1.shape)}"
        )


def copied(image: NDArray[Any] | Tensor) -> Any:
    """Return a copy of the same kind, contiguous; one that may be changed and be part of a loss, if it is a tensor."""
    if not isinstance(image, Tensor):
        return image.copy()
    with torch.inference_mode(mode=False):
        return image.clone(memory_format=torch.contiguous_format)


def full_scale(image: NDArray[Any] | Tensor) -> float:
    """Give the value of white: 1 for floats, the largest number of an unsigned integer type.

    Raises:
        InvalidInputError: If images of this type are not taken.
    """
    name = str(image.dtype).removeprefix("torch.") if isinstance(image, Tensor) else image.dtype.name
    if name in ("float16", "bfloat16", "float32", "float64"):
        return 1.0
    if name in ("uint8", "uint16"):
        return float(np.iinfo(name).max)
    raise InvalidInputError(f"images must be uint8, uint16 or floating in [0, 1], got {name}")
