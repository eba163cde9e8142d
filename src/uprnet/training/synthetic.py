"""Synthetic motion whose true flow is known: photo cut-outs that move over a moving photo."""

from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from uprnet.training.sample import Flow, Image, Sample
from uprnet.training.shapes import draw_mask
from uprnet.training.textures import Textures

Array = NDArray[np.float32]

_BLUR_STEPS = 5  # renderings averaged into one motion-blurred frame
_SOLVER_STEPS = 5  # fixed-point steps; each shrinks the error by _MAX_BEND or more
_MAX_BEND = 0.15  # largest derivative of the non-rigid displacement


@dataclass(frozen=True)
class SyntheticConfig:
    """What the generator makes.

    Args:
        weight: Share of the samples of a run that come from here, relative to the other sources.
        photos: Folder of photos that textures are cut from; empty for procedural texture.
        mean_motion: Mean length of a layer's translation from frame 0 to 1, in pixels (exponential).
        max_motion: Longest translation, as a share of the frame's side.
        max_layers: Most foreground layers in a scene; the number is uniform from 0.
        rotation: Deviation of a layer's rotation between the frames, in degrees.
        zoom: Deviation of the logarithm of a layer's change of size.
        bend: Share of layers that deform smoothly.
        acceleration: Largest acceleration of a layer as a share of its motion; the path stays straight.
        light: Share of scenes whose brightness changes.
        motion_blur: Share of scenes taken with an open shutter.
        noise: Share of scenes with sensor noise on the two input frames.
        jpeg: Share of scenes with JPEG artefacts on the two input frames.
        middle: Share of scenes whose target is at 0.5; the others are uniform in (0, 1).
    """

    weight: float = 0.0
    photos: str = ""
    mean_motion: float = 8.0
    max_motion: float = 1 / 3
    max_layers: int = 5
    rotation: float = 4.0
    zoom: float = 0.04
    bend: float = 0.3
    acceleration: float = 0.1
    light: float = 0.2
    motion_blur: float = 0.1
    noise: float = 0.2
    jpeg: float = 0.15
    middle: float = 0.5


class SyntheticMotion:
    """Generator of scenes with exact motion both ways.

    A scene is a textured background and some cut-outs in front of it. Each layer has its own path: translation,
    rotation and zoom, and for some a smooth non-rigid deformation. Frames at 0, t and 1 are rendered with soft
    masks; the flow is that of the front-most layer at each pixel, so it is exact at occlusions.

    Args:
        config: What to make.
        held_out: Take textures from the photos kept for validation.

    Raises:
        TrainingError: If the folder of photos holds none.

    Example:
        >>> scene = SyntheticMotion(SyntheticConfig()).sample(64, np.random.default_rng(0))
        >>> scene.img0.shape, scene.flow_01.shape
        ((64, 64, 3), (64, 64, 2))
    """

    def __init__(self, config: SyntheticConfig, held_out: bool = False) -> None:
        self.config = config
        self._textures = Textures(Path(config.photos) if config.photos else None, held_out)

    def sample(self, size: int, rng: np.random.Generator, motion_scale: float = 1.0, t: float | None = None) -> Sample:
        """Draw one scene.

        Args:
            size: Side of the frames, in pixels.
            rng: Source of all randomness: equal generators give equal scenes.
            motion_scale: Factor on all motion; a curriculum lets it grow to 1.
            t: Time of the target in (0, 1); by default drawn as `SyntheticConfig.middle` says.

        Returns:
            The frames, ``t`` and both flows.
        """
        config = self.config
        drawn = 0.5 if rng.random() < config.middle else float(rng.uniform(0.05, 0.95))
        t = drawn if t is None else t
        layers = self._draw_layers(size, rng, motion_scale)
        shutter = float(rng.uniform(0.1, 0.4)) if rng.random() < config.motion_blur else 0.0
        frames = [_expose(layers, time, size, shutter) for time in (0.0, t, 1.0)]
        if rng.random() < config.light:
            gain, offset = rng.normal(0, 0.05), rng.normal(0, 4.0)
            frames = [frame * (1 + gain * time) + offset * time for frame, time in zip(frames, (0, t, 1), strict=True)]
        img0, target, img1 = (_to_image(frame) for frame in frames)
        img0, img1 = self._degrade(img0, img1, rng)
        return Sample(img0, img1, target, t, _flow(layers, 0.0, 1.0, size), _flow(layers, 1.0, 0.0, size))

    def _draw_layers(self, size: int, rng: np.random.Generator, motion_scale: float) -> "list[_Layer]":
        background = self._textures.draw((size * 3 // 2, size * 3 // 2), rng)
        camera = self._draw_path(size, rng, motion_scale, np.zeros(2))
        layers = [_Layer(background, None, camera, self._draw_bend(size, rng, motion_scale))]
        for _ in range(int(rng.integers(0, self.config.max_layers + 1))):
            side = max(8, int(size * rng.uniform(0.12, 0.75)))
            # Half of the things move with the camera and a little on their own; the others go their own way.
            base = camera.translation if rng.random() < 0.5 else np.zeros(2)
            path = self._draw_path(size, rng, motion_scale, base)
            mask = draw_mask(side, rng)
            texture = self._textures.draw((side, side), rng)
            if texture.shape[:2] != mask.shape:
                texture = np.asarray(cv2.resize(texture, mask.shape[::-1]), dtype=np.uint8)
            bend = self._draw_bend(side, rng, motion_scale)
            opacity: Array = mask.astype(np.float32) / np.float32(255)
            layers.append(_Layer(texture, opacity, path, bend))
        return layers

    def _draw_path(
        self, size: int, rng: np.random.Generator, motion_scale: float, base: NDArray[np.float64]
    ) -> "_Path":
        config = self.config
        length = min(rng.exponential(config.mean_motion) * motion_scale, config.max_motion * size)
        heading = rng.uniform(0, 2 * np.pi)
        own = length * np.array([np.cos(heading), np.sin(heading)])
        translation = base + own
        translation *= min(1.0, config.max_motion * size / max(float(np.hypot(*translation)), 1e-6))
        return _Path(
            middle=rng.uniform(0.05, 0.95, 2) * size,
            translation=translation,
            angle=rng.uniform(-np.pi, np.pi) if rng.random() < 0.5 else 0.0,
            rotation=np.deg2rad(rng.normal(0, config.rotation)) * motion_scale,
            log_scale=rng.normal(0, 0.15),
            zoom=rng.normal(0, config.zoom) * motion_scale,
            acceleration=rng.uniform(-1, 1) * config.acceleration,
        )

    def _draw_bend(self, size: int, rng: np.random.Generator, motion_scale: float) -> "_Bend | None":
        if rng.random() >= self.config.bend:
            return None
        waves = rng.uniform(0.5, 2.0, (2, 2)) * rng.choice((-1, 1), (2, 2)) * 2 * np.pi / size
        amplitude = rng.uniform(0, _MAX_BEND, 2) * min(motion_scale, 1.0) / np.abs(waves).sum(axis=1)
        return _Bend(waves.astype(np.float32), rng.uniform(0, 2 * np.pi, 2), amplitude)

    def _degrade(self, img0: Image, img1: Image, rng: np.random.Generator) -> tuple[Image, Image]:
        """Noise and compression on the inputs alone: the target stays clean."""
        if rng.random() < self.config.noise:
            sigma = rng.uniform(0.5, 4.0)
            shape = img0.shape
            img0 = _to_image(img0 + sigma * rng.standard_normal(shape, dtype=np.float32))
            img1 = _to_image(img1 + sigma * rng.standard_normal(shape, dtype=np.float32))
        if rng.random() < self.config.jpeg:
            quality = int(rng.integers(40, 96))
            img0, img1 = _jpeg(img0, quality), _jpeg(img1, quality)
        return img0, img1


@dataclass(frozen=True)
class _Path:
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
class _Bend:
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
class _Layer:
    """A texture, its mask (None for the background, which is everywhere) and how both move."""

    texture: Image
    mask: Array | None
    path: _Path
    bend: _Bend | None

    def matrix(self, time: float) -> NDArray[np.float64]:
        height, width = self.texture.shape[:2]
        return self.path.matrix(time, ((width - 1) / 2, (height - 1) / 2))

    def window(self, time: float, size: int) -> "_Window":
        """The part of the canvas in which the layer may be seen."""
        if self.mask is None:
            return _Window(0, 0, size, size)
        matrix = self.matrix(time)
        bent = np.zeros(2) if self.bend is None else np.abs(time * self.bend.amplitude)
        middle = (np.array(self.texture.shape[1::-1]) - 1) / 2
        centre = matrix @ (*middle, 1)
        reach = np.abs(matrix[:, :2]) @ (middle + bent) + 1  # beyond the edge opacity fades within a pixel
        left, top = np.clip(np.floor(centre - reach), 0, size).astype(int).tolist()
        right, bottom = np.clip(np.ceil(centre + reach) + 1, 0, size).astype(int).tolist()
        return _Window(top, left, bottom, right)

    def _backward(self, time: float, window: "_Window") -> NDArray[np.float64]:
        """Map pixels of a window to texture points, ``(2, 3)``, as if nothing were bent."""
        matrix = self.matrix(time)
        inverse = np.asarray(np.linalg.inv(matrix[:, :2]), dtype=np.float64)
        return np.column_stack((inverse, inverse @ (np.array((window.left, window.top)) - matrix[:, 2])))

    def _texture_points(self, time: float, window: "_Window") -> Array:
        """The texture point seen at each pixel of a window, ``(2, height, width)``."""
        points = _affine_grid(self._backward(time, window), window)
        if self.bend is None or time == 0:
            return points
        rigid = points
        for _ in range(_SOLVER_STEPS):  # u + time * d(u) = rigid has one solution, as d is a contraction
            points = rigid - np.float32(time) * self.bend.displacement(points)
        return points

    def picture(self, time: float, window: "_Window") -> Image:
        """Colours in a window, ``(height, width, 3)``; mirrored at the edges of the texture."""
        return np.asarray(
            self._warp(self.texture, time, window, cv2.INTER_CUBIC, cv2.BORDER_REFLECT_101), dtype=np.uint8
        )

    def opacity(self, time: float, window: "_Window") -> Array | None:
        """Opacity in a window, ``(height, width)``; None for the background."""
        if self.mask is None:
            return None
        return np.asarray(self._warp(self.mask, time, window, cv2.INTER_LINEAR, cv2.BORDER_CONSTANT), dtype=np.float32)

    def _warp(self, plane: Image | Array, time: float, window: "_Window", interpolation: int, border: int) -> object:
        if self.bend is None:
            # Fast path: OpenCV makes the same grid itself.
            backward, flags = self._backward(time, window), interpolation | cv2.WARP_INVERSE_MAP
            return cv2.warpAffine(plane, backward, (window.width, window.height), flags=flags, borderMode=border)
        x, y = self._texture_points(time, window)
        return cv2.remap(plane, x, y, interpolation, borderMode=border)

    def flow(self, start: float, end: float, window: "_Window") -> Array:
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


class _Window(NamedTuple):
    """A part of the canvas, in pixels; ``bottom`` and ``right`` are the first beyond it."""

    top: int
    left: int
    bottom: int
    right: int

    @property
    def height(self) -> int:
        return self.bottom - self.top

    @property
    def width(self) -> int:
        return self.right - self.left

    @property
    def is_empty(self) -> bool:
        return self.height <= 0 or self.width <= 0

    @property
    def place(self) -> tuple[slice, slice]:
        """Rows and columns of the canvas."""
        return slice(self.top, self.bottom), slice(self.left, self.right)


def _affine_grid(backward: NDArray[np.float64], window: _Window) -> Array:
    """``backward @ (x, y, 1)`` for every pixel, counted from the corner of the window: ``(2, height, width)``."""
    columns, rows = np.arange(window.width), np.arange(window.height)[:, None]
    grid = backward[:, 0, None, None] * columns + (backward[:, 1, None, None] * rows + backward[:, 2, None, None])
    return grid.astype(np.float32)


def _compose(layers: list[_Layer], time: float, size: int) -> Array:
    """The scene at one instant, ``(size, size, 3)``, 0 to 255."""
    canvas: Array = layers[0].picture(time, layers[0].window(time, size)).astype(np.float32)
    for layer in layers[1:]:
        window = layer.window(time, size)
        opacity = None if window.is_empty else layer.opacity(time, window)
        if opacity is not None:
            below = canvas[window.place]
            below += opacity[:, :, None] * (layer.picture(time, window) - below)
    return canvas


def _expose(layers: list[_Layer], time: float, size: int, shutter: float) -> Array:
    """The scene as a camera sees it whose shutter is open for ``shutter`` of the distance between the frames."""
    if shutter == 0:
        return _compose(layers, time, size)
    instants = time + shutter * (np.arange(_BLUR_STEPS) / (_BLUR_STEPS - 1) - 0.5)
    total = np.zeros((size, size, 3), dtype=np.float32)
    for instant in instants:
        total += _compose(layers, float(instant), size)
    mean: Array = total / np.float32(_BLUR_STEPS)
    return mean


def _flow(layers: list[_Layer], start: float, end: float, size: int) -> Flow:
    """Flow of the front-most layer at each pixel, ``(size, size, 2)``."""
    flow = layers[0].flow(start, end, layers[0].window(start, size))
    for layer in layers[1:]:
        window = layer.window(start, size)
        opacity = None if window.is_empty else layer.opacity(start, window)
        if opacity is not None:
            rows, columns = window.place
            below = flow[:, rows, columns]
            np.copyto(below, layer.flow(start, end, window), where=opacity > 0.5)
    return np.ascontiguousarray(flow.transpose(1, 2, 0))


def _to_image(frame: Array) -> Image:
    return np.clip(np.rint(frame), 0, 255).astype(np.uint8)


def _jpeg(image: Image, quality: int) -> Image:
    _, data = cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, quality])
    return np.asarray(cv2.imdecode(data, cv2.IMREAD_COLOR), dtype=np.uint8)
