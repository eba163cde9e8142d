"""Synthetic motion whose true flow is known: photo cut-outs that move over a moving photo."""

from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from uprnet.training.layers import MAX_BEND, Array, Bend, Course, Layer
from uprnet.training.limits import check_limits
from uprnet.training.sample import Flow, Image, Sample
from uprnet.training.shapes import draw_mask
from uprnet.training.textures import Textures

_BLUR_STEPS = 5  # renderings averaged into one motion-blurred frame
_SIDES = (0.12, 0.75)  # of foreground layers, as shares of the frame's side
_FAST_SIDES = (0.08, 0.25)  # of those that are small and fast


@dataclass(frozen=True)
class SyntheticConfig:
    """What the generator makes.

    Args:
        weight: Share of the samples of a run that come from here, relative to the other sources.
        photos: Folder of photos that textures are cut from; empty for procedural texture.
        mean_motion: Mean length of a layer's translation from frame 0 to 1, in pixels (exponential).
        max_motion: Longest translation, as a share of the frame's side.
        fast: Share of foreground layers that are small and go far, like a ball: up to ``max_motion``.
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
    fast: float = 0.0
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

    def __post_init__(self) -> None:
        check_limits("data.synthetic", self, max_layers=0)


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

    def _draw_layers(self, size: int, rng: np.random.Generator, motion_scale: float) -> list[Layer]:
        background = self._textures.draw((size * 3 // 2, size * 3 // 2), rng)
        camera = self._draw_path(size, rng, motion_scale, np.zeros(2))
        layers = [Layer(background, None, camera, self._draw_bend(size, rng, motion_scale))]
        for _ in range(int(rng.integers(0, self.config.max_layers + 1))):
            is_fast = self.config.fast > 0 and rng.random() < self.config.fast
            side = max(8, int(size * rng.uniform(*(_FAST_SIDES if is_fast else _SIDES))))
            # Half of the things move with the camera and a little on their own; the others go their own way.
            base = camera.translation if rng.random() < 0.5 else np.zeros(2)
            path = self._draw_path(size, rng, motion_scale, base, is_fast)
            mask = draw_mask(side, rng)
            texture = self._textures.draw((side, side), rng)
            if texture.shape[:2] != mask.shape:
                texture = np.asarray(cv2.resize(texture, mask.shape[::-1]), dtype=np.uint8)
            bend = self._draw_bend(side, rng, motion_scale)
            opacity: Array = mask.astype(np.float32) / np.float32(255)
            layers.append(Layer(texture, opacity, path, bend))
        return layers

    def _draw_path(
        self,
        size: int,
        rng: np.random.Generator,
        motion_scale: float,
        base: NDArray[np.float64],
        is_fast: bool = False,
    ) -> Course:
        config = self.config
        drawn = rng.uniform(0, config.max_motion * size) if is_fast else rng.exponential(config.mean_motion)
        length = min(drawn * motion_scale, config.max_motion * size)
        heading = rng.uniform(0, 2 * np.pi)
        own = length * np.array([np.cos(heading), np.sin(heading)])
        translation = base + own
        translation *= min(1.0, config.max_motion * size / max(float(np.hypot(*translation)), 1e-6))
        return Course(
            middle=rng.uniform(0.05, 0.95, 2) * size,
            translation=translation,
            angle=rng.uniform(-np.pi, np.pi) if rng.random() < 0.5 else 0.0,
            rotation=np.deg2rad(rng.normal(0, config.rotation)) * motion_scale,
            log_scale=rng.normal(0, 0.15),
            zoom=rng.normal(0, config.zoom) * motion_scale,
            acceleration=rng.uniform(-1, 1) * config.acceleration,
        )

    def _draw_bend(self, size: int, rng: np.random.Generator, motion_scale: float) -> Bend | None:
        if rng.random() >= self.config.bend:
            return None
        waves = rng.uniform(0.5, 2.0, (2, 2)) * rng.choice((-1, 1), (2, 2)) * 2 * np.pi / size
        amplitude = rng.uniform(0, MAX_BEND, 2) * min(motion_scale, 1.0) / np.abs(waves).sum(axis=1)
        return Bend(waves.astype(np.float32), rng.uniform(0, 2 * np.pi, 2), amplitude)

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


def _compose(layers: list[Layer], time: float, size: int) -> Array:
    """The scene at one instant, ``(size, size, 3)``, 0 to 255."""
    canvas: Array = layers[0].picture(time, layers[0].window(time, size)).astype(np.float32)
    for layer in layers[1:]:
        window = layer.window(time, size)
        opacity = None if window.is_empty else layer.opacity(time, window)
        if opacity is not None:
            below = canvas[window.place]
            below += opacity[:, :, None] * (layer.picture(time, window) - below)
    return canvas


def _expose(layers: list[Layer], time: float, size: int, shutter: float) -> Array:
    """The scene as a camera sees it whose shutter is open for ``shutter`` of the distance between the frames."""
    if shutter == 0:
        return _compose(layers, time, size)
    instants = time + shutter * (np.arange(_BLUR_STEPS) / (_BLUR_STEPS - 1) - 0.5)
    total = np.zeros((size, size, 3), dtype=np.float32)
    for instant in instants:
        total += _compose(layers, float(instant), size)
    mean: Array = total / np.float32(_BLUR_STEPS)
    return mean


def _flow(layers: list[Layer], start: float, end: float, size: int) -> Flow:
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
