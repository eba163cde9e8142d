"""What makes the new frames, as the pipeline sees it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from uprnet.media.colour import Image
from uprnet.media.linear_light import as_displayed

BATCH = 8
"""New frames of one pair that are made, and kept in memory, at a time."""


class PairInterpolator(Protocol):
    """What makes the new frames; `uprnet.Interpolator` does.

    One that has an attribute ``identity``, a text, says with it what decides the frames it makes: work that was
    interrupted goes on only with the same.
    """

    def between(self, img0: Image, img1: Image, times: Sequence[float]) -> list[Image]:
        """Make one frame for each of ``times`` in (0, 1), like the images in size and type."""


def frames_between(interpolator: PairInterpolator, img0: Image, img1: Image, times: Sequence[float]) -> list[Image]:
    """Make one frame for each of ``times`` between images of any kind, linear light included."""
    if img0.dtype.kind != "f":
        return interpolator.between(img0, img1, times)
    seen0, seen1, back = as_displayed(img0, img1)
    return [back(frame) for frame in interpolator.between(seen0, seen1, times)]


def identity_of(interpolator: PairInterpolator) -> str:
    """Tell one interpolator from another that makes other frames."""
    name = f"{type(interpolator).__module__}.{type(interpolator).__qualname__}"
    return str(getattr(interpolator, "identity", name))


def default_interpolator() -> PairInterpolator:
    """Load the default network."""
    from uprnet.interpolate import Interpolator  # torch takes seconds to import: only when it is needed

    return Interpolator()
