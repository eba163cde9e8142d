"""How stored frames are turned and mirrored to be upright.

Convention:
    The matrix is libav's display matrix: nine numbers ``a b u c d v x y w``, a to d in 1/65536; a stored pixel
    ``(x, y)`` is shown at ``(a x + c y, b x + d y)`` up to a shift.
"""

from __future__ import annotations

from dataclasses import dataclass

import av
import numpy as np
from av.sidedata.sidedata import Type

from uprnet.media.colour import Image
from uprnet.media.side_data import side_data


@dataclass(frozen=True)
class Orientation:
    """A turn by a multiple of 90 degrees, perhaps with a mirror; other angles count as the nearest.

    Attributes:
        matrix: Display matrix; empty if frames are stored upright.
    """

    matrix: tuple[int, ...] = ()

    @classmethod
    def of(cls, frame: av.VideoFrame) -> Orientation:
        """Read it from a decoded frame."""
        data = side_data(frame).get(Type.DISPLAYMATRIX, b"")
        found = cls(tuple(np.frombuffer(data, np.int32).tolist()))
        return cls() if found._axes() == (False, 1, 1) else found

    @property
    def is_turned(self) -> bool:
        """Whether rows become columns."""
        return self._axes()[0]

    @property
    def degrees(self) -> int:
        """Counterclockwise turn to be upright, one of 0, 90, 180 and 270, before a mirror."""
        is_turned, right, down = self._axes()
        return (90 if down < 0 else 270) if is_turned else 180 if right < 0 and down < 0 else 0

    def upright(self, image: Image) -> Image:
        """Turn a stored image, ``(H, W, C)``, as it is to be seen."""
        if not self.matrix:
            return image
        is_turned, right, down = self._axes()
        seen = image.swapaxes(0, 1) if is_turned else image
        return np.ascontiguousarray(seen[::down, ::right])

    def _axes(self) -> tuple[bool, int, int]:
        """Say whether rows become columns, and the direction in which both then run: 1 or -1, across and down."""
        if not self.matrix:
            return False, 1, 1
        a, b, _, c, d = self.matrix[:5]
        is_turned = abs(b) + abs(c) > abs(a) + abs(d)
        across, down = (c, b) if is_turned else (a, d)
        return is_turned, -1 if across < 0 else 1, -1 if down < 0 else 1
