"""The layers of a synthetic scene: textures with masks that move, turn, grow and bend, and their exact flow."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from uprnet.training.sample import Image

Array = NDArray[np.float32]

_SOLVER_STEPS = 5  # fixed-point steps; each shrinks the error by MAX_BEND or more
MAX_BEND = 0.15  # largest derivative of the non-rigid displacement


@dataclass(frozen=True)
class Course:
    """Where a layer is at each time: its middle, turned and scaled about itself."""

    middle: NDArray[np.float64]  # of the layer at time 0.5, canvas pixels
    translation: NDArray[np.float64]  # from time 0 to 1, canvas pixels
    angle: float
    rotation: float
    log_scale: float
    zoom: float
    acceleration: float

    def matrix(self, time: float, texture_middle: tuple[float, float]) -> NDArray[np.float64]:
        """Map texture to canvas, ``(2, 3)``, for points ``(x, y, 1)``."""
        # 0 at time 0, 1 at time 1, faster at one end than at the other.
        travelled = time + self.acceleration * time * (time - 1)
        angle = self.angle + self.rotation * travelled
        scale = np.exp(self.log_scale + self.zoom * travelled)
        turn = scale * np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
        middle = self.middle + self.translation * (travelled - 0.5)
        return np.column_stack((turn, middle - turn @ np.array(texture_middle)))


@dataclass(frozen=True)
class Bend:
    """Smooth displacement of texture points, ``amplitude * sin(waves @ point + phase)``, that grows with time."""

    waves: Array
    phase: NDArray[np.float64]
    amplitude: NDArray[np.float64]

    def displacement(self, points: Array) -> Array:
        """Displacement at time 1 of ``(2, H, W)`` texture points, like them."""
        result = np.empty_like(points)
        for axis in (0, 1):
            argument = self.waves[axis, 0] * points[0] + self.waves[axis, 1] * points[1]
            result[axis] = np.float32(self.amplitude[axis]) * np.sin(argument + np.float32(self.phase[axis]))
        return result


@dataclass(frozen=True)
class Layer:
    """A texture, its mask (None for the background, which is everywhere) and how both move."""

    texture: Image
    mask: Array | None
    path: Course
    bend: Bend | None

    def matrix(self, time: float) -> NDArray[np.float64]:
        """Map texture to canvas, ``(2, 3)``, for points ``(x, y, 1)``, as if nothing were bent."""
        height, width = self.texture.shape[:2]
        return self.path.matrix(time, ((width - 1) / 2, (height - 1) / 2))

    def window(self, time: float, size: int) -> Window:
        """The part of the canvas in which the layer may be seen."""
        if self.mask is None:
            return Window(0, 0, size, size)
        matrix = self.matrix(time)
        bent = np.zeros(2) if self.bend is None else np.abs(time * self.bend.amplitude)
        middle = (np.array(self.texture.shape[1::-1]) - 1) / 2
        centre = matrix @ (*middle, 1)
        reach = np.abs(matrix[:, :2]) @ (middle + bent) + 1  # beyond the edge opacity fades within a pixel
        left, top = np.clip(np.floor(centre - reach), 0, size).astype(int).tolist()
        right, bottom = np.clip(np.ceil(centre + reach) + 1, 0, size).astype(int).tolist()
        return Window(top, left, bottom, right)

    def _backward(self, time: float, window: Window) -> NDArray[np.float64]:
        """Map pixels of a window to texture points, ``(2, 3)``, as if nothing were bent."""
        matrix = self.matrix(time)
        inverse = np.asarray(np.linalg.inv(matrix[:, :2]), dtype=np.float64)
        return np.column_stack((inverse, inverse @ (np.array((window.left, window.top)) - matrix[:, 2])))

    def _texture_points(self, time: float, window: Window) -> Array:
        """The texture point seen at each pixel of a window, ``(2, height, width)``."""
        points = _affine_grid(self._backward(time, window), window)
        if self.bend is None or time == 0:
            return points
        rigid = points
        for _ in range(_SOLVER_STEPS):  # u + time * d(u) = rigid has one solution, as d is a contraction
            points = rigid - np.float32(time) * self.bend.displacement(points)
        return points

    def picture(self, time: float, window: Window) -> Image:
        """Colours in a window, ``(height, width, 3)``; mirrored at the edges of the texture."""
        return np.asarray(
            self._warp(self.texture, time, window, cv2.INTER_CUBIC, cv2.BORDER_REFLECT_101), dtype=np.uint8
        )

    def opacity(self, time: float, window: Window) -> Array | None:
        """Opacity in a window, ``(height, width)``; None for the background."""
        if self.mask is None:
            return None
        return np.asarray(self._warp(self.mask, time, window, cv2.INTER_LINEAR, cv2.BORDER_CONSTANT), dtype=np.float32)

    def _warp(self, plane: Image | Array, time: float, window: Window, interpolation: int, border: int) -> object:
        if self.bend is None:
            # Fast path: OpenCV makes the same grid itself.
            backward, flags = self._backward(time, window), interpolation | cv2.WARP_INVERSE_MAP
            return cv2.warpAffine(plane, backward, (window.width, window.height), flags=flags, borderMode=border)
        x, y = self._texture_points(time, window)
        return cv2.remap(plane, x, y, interpolation, borderMode=border)

    def flow(self, start: float, end: float, window: Window) -> Array:
        """Displacement of each pixel of a window, as if the layer covered all of it: ``(2, height, width)``."""
        points = self._texture_points(start, window)
        moved = points
        if self.bend is not None and end != 0:
            moved = points + np.float32(end) * self.bend.displacement(points)
        matrix = self.matrix(end).astype(np.float32)
        x = matrix[0, 0] * moved[0] + matrix[0, 1] * moved[1] + matrix[0, 2]
        y = matrix[1, 0] * moved[0] + matrix[1, 1] * moved[1] + matrix[1, 2]
        x -= np.arange(window.left, window.right, dtype=np.float32)
        y -= np.arange(window.top, window.bottom, dtype=np.float32)[:, None]
        return np.stack((x, y))


class Window(NamedTuple):
    """A part of the canvas, in pixels; ``bottom`` and ``right`` are the first beyond it."""

    top: int
    left: int
    bottom: int
    right: int

    @property
    def height(self) -> int:
        """Rows."""
        return self.bottom - self.top

    @property
    def width(self) -> int:
        """Columns."""
        return self.right - self.left

    @property
    def is_empty(self) -> bool:
        """Whether there is no pixel in it."""
        return self.height <= 0 or self.width <= 0

    @property
    def place(self) -> tuple[slice, slice]:
        """Rows and columns of the canvas."""
        return slice(self.top, self.bottom), slice(self.left, self.right)


def _affine_grid(backward: NDArray[np.float64], window: Window) -> Array:
    """``backward @ (x, y, 1)`` for every pixel, counted from the corner of the window: ``(2, height, width)``."""
    columns, rows = np.arange(window.width), np.arange(window.height)[:, None]
    grid = backward[:, 0, None, None] * columns + (backward[:, 1, None, None] * rows + backward[:, 2, None, None])
    return grid.astype(np.float32)
