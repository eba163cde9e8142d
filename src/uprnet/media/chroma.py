"""Chroma at half size: grow it to the size of the luma and shrink it again, where it lies.

Convention:
    A location is the place of the first chroma sample, ``(x, y)`` in pixels of the luma from its first sample:
    ``(0, 0.5)`` is the usual one of 4:2:0, on the left and between two rows. Both ways use Lanczos kernels of three
    lobes, so that a picture that goes through both stays almost as it was.

Reference:
    ITU-T H.273, 8.7 (chroma sample location type).
"""

from __future__ import annotations

from functools import cache
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

LOBES = 3
"""Half width of the kernels, in samples of the smaller picture."""

Plane = npt.NDArray[Any]
"""``(H, W)``, uint8 or uint16."""


def grow(plane: Plane, size: tuple[int, int], location: tuple[float, float], halved: tuple[bool, bool]) -> Plane:
    """Double a chroma plane.

    Args:
        plane: Chroma, ``(h, w)``.
        size: Size of the luma, ``(height, width)``: twice that of the chroma, or one less.
        location: Where the first chroma sample lies, ``(x, y)``.
        halved: Whether chroma has half the rows, and half the columns.

    Returns:
        Chroma for every pixel, of ``size``.
    """
    rows, columns = _phases(location[1], halved[0]), _phases(location[0], halved[1])
    if (len(rows), len(columns)) == (1, 1):
        return plane
    grown = np.empty((plane.shape[0] * len(rows), plane.shape[1] * len(columns)), plane.dtype)
    for i, row in enumerate(rows):
        for j, column in enumerate(columns):
            part = cv2.sepFilter2D(plane, -1, column, row, borderType=cv2.BORDER_REPLICATE)
            grown[i :: len(rows), j :: len(columns)] = part
    return grown[: size[0], : size[1]]


def shrink(plane: Plane, location: tuple[float, float], halved: tuple[bool, bool]) -> Plane:
    """Halve chroma that is there for every pixel, see `grow`; odd sizes are rounded up."""
    if halved[0]:
        plane = _halve(plane, location[1], axis=0)
    if halved[1]:
        plane = _halve(plane, location[0], axis=1)
    return plane


def _halve(plane: Plane, location: float, axis: int) -> Plane:
    """Halve the rows (axis 0) or columns; even and odd ones are filtered apart, so that nothing is made in vain."""
    if plane.shape[axis] % 2 == 1:
        plane = np.concatenate([plane, plane[-1:] if axis == 0 else plane[:, -1:]], axis)
    one = np.ones(1, np.float32)
    sums = []
    for first, kernel in enumerate(_halving(location)):
        part = plane[first::2] if axis == 0 else np.ascontiguousarray(plane[:, first::2])
        across, down = (one, kernel) if axis == 0 else (kernel, one)
        sums.append(cv2.sepFilter2D(part, cv2.CV_32F, across, down, borderType=cv2.BORDER_REPLICATE))
    even, odd = sums
    return np.asarray(cv2.add(even, odd, dtype=cv2.CV_8U if plane.itemsize == 1 else cv2.CV_16U))


@cache
def _phases(location: float, is_halved: bool) -> tuple[npt.NDArray[np.float32], ...]:
    """Give the kernels for the even and the odd luma samples: luma x lies at chroma (x - location) / 2."""
    if not is_halved:
        return (np.ones(1, np.float32),)
    reach = np.arange(-LOBES, LOBES + 1)
    kernels = (_lanczos(reach - phase) for phase in (-location / 2, (1 - location) / 2))
    return tuple(np.ones(1, np.float32) if weights.max() == 1 else _scaled(weights, weights) for weights in kernels)


@cache
def _halving(location: float) -> tuple[npt.NDArray[np.float32], ...]:
    """Give the kernels over the even and over the odd luma samples around the chroma sample at ``location``."""
    reach = np.arange(-LOBES, LOBES + 1)
    even, odd = _lanczos(reach - location / 2), _lanczos(reach + (1 - location) / 2)
    total = np.concatenate([even, odd])
    return _scaled(even, total), _scaled(odd, total)


def _lanczos(distances: npt.NDArray[Any]) -> npt.NDArray[Any]:
    return np.where(np.abs(distances) < LOBES, np.sinc(distances) * np.sinc(distances / LOBES), 0.0)


def _scaled(weights: npt.NDArray[Any], total: npt.NDArray[Any]) -> npt.NDArray[np.float32]:
    return np.asarray(weights / total.sum(), np.float32)
