"""UPR-Net: a pyramid recurrent network for video frame interpolation.

Three purely convolutional boxes, shared by all pyramid levels, with two operators between them:

    FeaturePyramid   a frame -> features at full, half and quarter size
    FlowEstimator    cost volume and features, both warped to the middle -> motion both ways
    FrameSynthesis   frames and features warped to time t -> residual and masks of the new frame

`UPRNet` composes them, coarsest level first. Motion does not depend on ``t``, and features not on the pair:
`UPRNet.encode` runs once a frame, `UPRNet.estimate_motion` once a pair, `UPRNet.synthesize` once a new frame.

Convention:
    Images are RGB in [0, 1], ``(B, 3, H, W)``. Level 0 is full resolution, each further level halves it. Flow has
    channels ``(dx, dy)`` in pixels; the flow of a level lives on its quarter grid, in pixels of its full size.
    ``t`` is 0 at ``img0`` and 1 at ``img1``.

Reference:
    Jin et al., "A Unified Pyramid Recurrent Network for Video Frame Interpolation", CVPR 2023, arXiv 2211.03456.
"""

from __future__ import annotations

from itertools import pairwise
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from uprnet.errors import InvalidInputError
from uprnet.network.config import ModelConfig, size_multiple
from uprnet.network.ops import cost_volume, splat_average
from uprnet.network.ops.activation import PReLU
from uprnet.network.ops.cpu_kernels import NUM_DISPLACEMENTS

#: Negative slope of LeakyReLU in the feature pyramid, after the cost volume and in the flow estimator.
LEAKY_SLOPE = 0.1

#: Motion is estimated on a grid this many times coarser than its level.
FLOW_STRIDE = 4

#: The same thing of both frames: of ``img0``, of ``img1``.
TensorPair = tuple[Tensor, Tensor]


class PyramidLevel(NamedTuple):
    """One level of one frame: the shrunk image and its features."""

    full: Tensor  # (B, 3 + c, h, w) the image and c0 side by side, because they are warped together
    c1: Tensor  # (B, 2c, h/2, w/2)
    c2: Tensor  # (B, 4c, h/4, w/4)

    @property
    def image(self) -> Tensor:
        """The shrunk image, ``(B, 3, h, w)``."""
        return self.full[:, :3]

    @property
    def c0(self) -> Tensor:
        """The features of the level's full size, ``(B, c, h, w)``."""
        return self.full[:, 3:]

    @property
    def has_features(self) -> bool:
        """Whether there is more than the image, and maybe c2."""
        return self.c1.shape[1] > 0


class Features(NamedTuple):
    """What `UPRNet.encode` knows of a frame; ``levels[0]`` is full resolution, a skipped level is None."""

    levels: list[PyramidLevel | None]
    skip_finest: int

    @property
    def estimating(self) -> list[int]:
        """The levels that estimate motion, coarsest first."""
        return list(range(len(self.levels) - 1, self.skip_finest - 1, -1))

    @property
    def synthesizing(self) -> list[int]:
        """The levels that synthesise a frame, coarsest first: those that estimate motion, and level 0."""
        return self.estimating + ([0] if self.skip_finest else [])

    def level(self, index: int) -> PyramidLevel:
        """Return a level that is there."""
        level = self.levels[index]
        if level is None:
            raise InvalidInputError(f"level {index} was left out when the frame was encoded")
        return level


class Motion(NamedTuple):
    """Flow of each level, ``(B, 4, h/4, w/4)``, channels ``(dx01, dy01, dx10, dy10)``; a skipped level is None."""

    flows: list[Tensor | None]

    def full_resolution(self) -> tuple[Tensor, Tensor]:
        """Return ``flow_01`` and ``flow_10`` of level 0, ``(B, 2, H, W)`` each, in full-resolution pixels."""
        finest = self.flows[0]
        assert finest is not None  # level 0 is never skipped
        flow = resize(finest, FLOW_STRIDE)
        return flow[:, :2], flow[:, 2:]


class Synthesis(NamedTuple):
    """A new frame and how it came about, all at full resolution but ``frames``."""

    frame: Tensor  # (B, 3, H, W) in [0, 1]
    merged: Tensor  # (B, 3, H, W) the warped frames, blended by the masks
    residual: Tensor  # (B, 3, H, W) in (-1, 1), added to ``merged``
    mask0: Tensor  # (B, 1, H, W) in (0, 1), trust in img0
    mask1: Tensor  # (B, 1, H, W) in (0, 1), trust in img1
    frames: list[Tensor | None]  # the frame of each level, index = level


class Interpolation(NamedTuple):
    """What `UPRNet.forward` returns."""

    frame: Tensor  # (B, 3, H, W) in [0, 1]
    flow_01: Tensor  # (B, 2, H, W) full-resolution pixels
    flow_10: Tensor  # (B, 2, H, W) full-resolution pixels


def resize(tensor: Tensor, scale: float) -> Tensor:
    """Resize ``(B, C, H, W)`` bilinearly by ``scale``, corners not aligned; values stay as they are."""
    return F.interpolate(tensor, scale_factor=scale, mode="bilinear", align_corners=False)


def warp_level(level: PyramidLevel, flow: Tensor, first_row: int = 0) -> PyramidLevel:
    """Warp a frame's image and features, or some rows of them.

    Args:
        level: The image and its features.
        flow: Displacement of every pixel, ``(B, 2, h, w)``, in pixels of the level's full size.
        first_row: Number of the first of these rows, a multiple of 4.
    """
    half = 0.5 * resize(flow, 0.5)
    quarter = 0.5 * resize(half, 0.5)
    return PyramidLevel(
        splat_average(level.full, flow, first_row),
        splat_average(level.c1, half, first_row // 2),
        splat_average(level.c2, quarter, first_row // 4),
    )


def _run(stage: nn.Sequential, parts: list[Tensor]) -> Tensor:
    """Run ``stage`` on ``parts`` side by side; the list is emptied, so that nothing outlives its use."""
    tensor = torch.cat(parts, dim=1)
    parts.clear()
    for layer in stage:
        tensor = layer(tensor)
    return tensor


def _in_float32(head: nn.Module, features: Tensor) -> Tensor:
    """Run a last convolution; under autocast, too, in float32: flow and colours need its digits."""
    if torch.is_autocast_enabled(features.device.type):
        with torch.autocast(features.device.type, enabled=False):
            return _in_float32(head, features.float())
    output: Tensor = head(features)
    return output


def _conv(inputs: int, outputs: int, stride: int = 1) -> nn.Conv2d:
    return nn.Conv2d(inputs, outputs, kernel_size=3, stride=stride, padding=1)


class FeaturePyramid(nn.Module):
    """Extract features of an image at full, half and quarter size (section 3.1)."""

    def __init__(self, c: int) -> None:
        super().__init__()
        self.stage0 = self._stage(3, c, stride=1)
        self.stage1 = self._stage(c, 2 * c, stride=2)
        self.stage2 = self._stage(2 * c, 4 * c, stride=2)

    @staticmethod
    def _stage(inputs: int, outputs: int, stride: int) -> nn.Sequential:
        layers: list[nn.Module] = []
        for index in range(4):
            layers += [
                _conv(inputs, outputs, stride) if index == 0 else _conv(outputs, outputs),
                nn.LeakyReLU(LEAKY_SLOPE, inplace=True),
            ]
        return nn.Sequential(*layers)

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return features ``(B, c, H, W)``, ``(B, 2c, H/2, W/2)`` and ``(B, 4c, H/4, W/4)``."""
        c0 = self.stage0(image)
        c1 = self.stage1(c0)
        return c0, c1, self.stage2(c1)


class FlowEstimator(nn.Module):
    """Estimate motion both ways from the cost volume, features and the coarser level's result (section 3.2)."""

    def __init__(self, c: int) -> None:
        super().__init__()
        inputs = NUM_DISPLACEMENTS + 3 * 4 * c + 4
        widths = [10 * c, 8 * c, 7 * c, 6 * c, 4 * c]
        layers: list[nn.Module] = [
            nn.Conv2d(inputs, widths[0], kernel_size=1),
            nn.LeakyReLU(LEAKY_SLOPE, True),
        ]
        for before, after in pairwise(widths):
            layers += [_conv(before, after), nn.LeakyReLU(LEAKY_SLOPE, inplace=True)]
        self.layers = nn.Sequential(*layers)
        self.head = _conv(widths[-1], 4)

    def forward(
        self, costs: Tensor, warped0: Tensor, warped1: Tensor, context: Tensor, flow: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Return the new flow ``(B, 4, h/4, w/4)`` and context ``(B, 4c, h/4, w/4)``; inputs on the same grid."""
        costs = F.leaky_relu(costs, LEAKY_SLOPE)
        context = self.layers(torch.cat([costs, warped0, warped1, context, flow], dim=1))
        return _in_float32(self.head, context), context


class FrameSynthesis(nn.Module):
    """Turn warped frames and features into the residual and masks of the new frame: a U-Net (section 3.3)."""

    def __init__(self, c: int) -> None:
        super().__init__()
        d = 2 * c
        self.encode0 = self._stage(_conv(19, d), d)
        self.encode1 = self._stage(_conv(d + 2 * c, 2 * d, stride=2), 2 * d, depth=3)
        self.encode2 = self._stage(_conv(2 * d + 4 * c, 4 * d, stride=2), 4 * d, depth=3)
        self.decode1 = self._stage(self._up(4 * d + 8 * c, 2 * d), 2 * d)
        self.decode2 = self._stage(self._up(4 * d, d), d)
        self.decode3 = self._stage(_conv(2 * d, d), d)
        self.head = _conv(d, 5)

    @staticmethod
    def _up(inputs: int, outputs: int) -> nn.ConvTranspose2d:
        return nn.ConvTranspose2d(inputs, outputs, kernel_size=4, stride=2, padding=1)

    @staticmethod
    def _stage(first: nn.Module, width: int, depth: int = 2) -> nn.Sequential:
        layers: list[nn.Module] = [first, PReLU(width)]
        for _ in range(depth - 1):
            layers += [_conv(width, width), PReLU(width)]
        return nn.Sequential(*layers)

    def forward(self, images: tuple[Tensor, ...], c0: TensorPair, c1: TensorPair, c2: TensorPair) -> Tensor:
        """Return 5 channels before their sigmoids: residual (3), mask of img0, mask of img1.

        Args:
            images: Coarse frame, both warped images, both images, ``(B, 3, h, w)`` each, and flow_0t with flow_1t,
                ``(B, 4, h, w)``.
            c0: Warped full-size features of the two frames, ``(B, c, h, w)`` each.
            c1: Warped half-size features of the two frames, ``(B, 2c, h/2, w/2)`` each.
            c2: Warped quarter-size features of the two frames, ``(B, 4c, h/4, w/4)`` each.
        """
        e0 = _run(self.encode0, [*images])  # (B, d, h, w)
        e1 = _run(self.encode1, [e0, *c0])  # (B, 2d, h/2, w/2)
        e2 = _run(self.encode2, [e1, *c1])  # (B, 4d, h/4, w/4)
        inner, middle, outer = [e2, *c2], [e1], [e0]
        del e2, e1, e0  # the lists are their only holders now, and `_run` empties them
        middle.insert(0, _run(self.decode1, inner))  # (B, 2d, h/2, w/2)
        outer.insert(0, _run(self.decode2, middle))  # (B, d, h, w)
        return _in_float32(self.head, _run(self.decode3, outer))  # (B, d, h, w) before the head


class UPRNet(nn.Module):
    """The whole network, in the size that ``config`` says.

    Example:
        >>> model = UPRNet(ModelConfig.from_size("small"))
        >>> model(torch.rand(1, 3, 32, 48), torch.rand(1, 3, 32, 48), t=0.5).frame.shape
        torch.Size([1, 3, 32, 48])
    """

    def __init__(self, config: ModelConfig | None = None) -> None:
        super().__init__()
        self.config = config or ModelConfig()
        self.encoder = FeaturePyramid(self.config.base_channels)
        self.flow_estimator = FlowEstimator(self.config.base_channels)
        self.synthesis = FrameSynthesis(self.config.base_channels)

    def encode(self, image: Tensor, num_levels: int = 3, skip_finest: int = 0) -> Features:
        """Compute the features of a frame; they serve every pair that the frame is part of.

        Args:
            image: RGB in [0, 1], ``(B, 3, H, W)``, sizes divisible by ``2 ** (num_levels + 1)``.
            num_levels: Levels of the pyramid, at least 1.
            skip_finest: The number of finest levels that estimate no motion (level 0 still synthesises).

        Raises:
            InvalidInputError: If the image or the levels do not fit.
        """
        check_levels(image, num_levels, skip_finest)
        levels: list[PyramidLevel | None] = [None] * num_levels
        for index in encoded_levels(num_levels, skip_finest):
            levels[index] = self._encode_level(resize(image, 0.5**index) if index else image)
        return Features(levels, skip_finest)

    def _encode_level(self, image: Tensor) -> PyramidLevel:
        c0, c1, c2 = self.encoder(image)
        return PyramidLevel(torch.cat([image, c0], dim=1), c1, c2)

    def estimate_motion(self, features0: Features, features1: Features) -> Motion:
        """Estimate the motion of a pair, both ways, from coarse to fine; it does not depend on ``t``."""
        flows: list[Tensor | None] = [None] * len(features0.levels)
        coarsest = features0.level(len(flows) - 1).c2
        flow = torch.zeros_like(coarsest[:, :4])
        context = torch.zeros_like(coarsest)
        for index in features0.estimating:
            if index != len(flows) - 1:
                # The context is doubled along with the flow: a quirk that the official weights expect.
                flow, context = 2 * resize(flow, 2), 2 * resize(context, 2)
            flow, context = self._refine_flow(features0.level(index).c2, features1.level(index).c2, flow, context)
            flows[index] = flow
        if flows[0] is None:
            scale = 2**features0.skip_finest
            flows[0] = scale * resize(flow, scale)
        return Motion(flows)

    def _refine_flow(self, c2_0: Tensor, c2_1: Tensor, flow: Tensor, context: Tensor) -> tuple[Tensor, Tensor]:
        """Estimate a level's flow from its features, both warped to the middle by the flow so far."""
        warped0, warped1 = self._warp_to_middle(c2_0, c2_1, flow)
        refined: tuple[Tensor, Tensor] = self.flow_estimator(
            cost_volume(warped0, warped1), warped0, warped1, context, flow
        )
        return refined

    @staticmethod
    def _warp_to_middle(c2_0: Tensor, c2_1: Tensor, flow: Tensor) -> tuple[Tensor, Tensor]:
        to_middle = 0.5 / FLOW_STRIDE * flow  # in pixels of the quarter grid
        return splat_average(c2_0, to_middle[:, :2]), splat_average(c2_1, to_middle[:, 2:])

    def synthesize(self, features0: Features, features1: Features, motion: Motion, t: float | Tensor) -> Synthesis:
        """Make the frame at time ``t`` from what is known of the pair.

        Args:
            features0: Features of the first frame.
            features1: Features of the second frame.
            motion: Motion between them.
            t: Time in (0, 1), one for all or ``(B,)``, one for each item of the batch.
        """
        image = features0.level(0).image
        time = torch.as_tensor(t, dtype=image.dtype, device=image.device).view(-1, 1, 1, 1)
        frames: list[Tensor | None] = [None] * len(features0.levels)
        synthesis: Synthesis | None = None
        for index in features0.synthesizing:
            flow = motion.flows[index]
            assert flow is not None  # motion has every level that the features have
            coarse = synthesis.frame if synthesis else None
            synthesis = self._synthesize_level(features0.level(index), features1.level(index), flow, time, coarse)
            frames[index] = synthesis.frame
        assert synthesis is not None
        return synthesis._replace(frames=frames)

    def _synthesize_level(
        self, level0: PyramidLevel, level1: PyramidLevel, flow: Tensor, t: Tensor, coarse: Tensor | None
    ) -> Synthesis:
        flow = resize(flow, FLOW_STRIDE) * torch.cat([t, t, 1 - t, 1 - t], dim=1)  # flow_0t and flow_1t
        if coarse is not None:
            coarse = resize(coarse, flow.shape[-1] // coarse.shape[-1])
        warped0, warped1 = warp_level(level0, flow[:, :2]), warp_level(level1, flow[:, 2:])
        return self.compose(level0.image, level1.image, warped0, warped1, flow, t, coarse)

    def compose(
        self,
        image0: Tensor,
        image1: Tensor,
        warped0: PyramidLevel,
        warped1: PyramidLevel,
        flow: Tensor,
        t: Tensor,
        coarse: Tensor | None,
    ) -> Synthesis:
        """Make the frame of a level, or of some rows of it, from both frames warped to time ``t``.

        Args:
            image0: The first image, ``(B, 3, h, w)``.
            image1: The second image, ``(B, 3, h, w)``.
            warped0: The first frame's image and features, warped.
            warped1: The second frame's.
            flow: Flow that warped them, flow_0t and flow_1t, ``(B, 4, h, w)``.
            t: Time, ``(B, 1, 1, 1)`` or ``(1, 1, 1, 1)``.
            coarse: The coarser level's frame at this level's size; None at the coarsest level.
        """
        if coarse is None:
            coarse = (1 - t) * warped0.image + t * warped1.image
        head = self.synthesis(
            (coarse, warped0.image, warped1.image, image0, image1, flow),
            (warped0.c0, warped1.c0),
            (warped0.c1, warped1.c1),
            (warped0.c2, warped1.c2),
        )
        shares = torch.sigmoid(head)
        residual, mask0, mask1 = 2 * shares[:, :3] - 1, shares[:, 3:4], shares[:, 4:5]
        weight0, weight1 = mask0 * (1 - t), mask1 * t
        merged = torch.lerp(warped1.image, warped0.image, weight0 / (weight0 + weight1))  # their weighted mean
        frame = (merged + residual).clamp(0, 1)
        return Synthesis(frame, merged, residual, mask0, mask1, [])

    def forward(
        self, img0: Tensor, img1: Tensor, t: float | Tensor = 0.5, num_levels: int = 3, skip_finest: int = 0
    ) -> Interpolation:
        """Make the frame at time ``t`` between two images.

        Args:
            img0: First image, RGB in [0, 1], ``(B, 3, H, W)``, sizes divisible by ``2 ** (num_levels + 1)``.
            img1: Second image, like ``img0``.
            t: Time in (0, 1), one for all or ``(B,)``, one for each item of the batch.
            num_levels: Levels of the pyramid: more for larger pictures and motion, see `default_num_levels`.
            skip_finest: The number of finest levels that estimate no motion: 2 at 4K, where it is faster and better.

        Raises:
            InvalidInputError: If the images differ in size, or they or the levels do not fit.
        """
        if img0.shape != img1.shape:
            raise InvalidInputError(
                f"img0 and img1 must have the same size, got {tuple(img0.shape)} and {tuple(img1.shape)}"
            )
        features0 = self.encode(img0, num_levels, skip_finest)
        features1 = self.encode(img1, num_levels, skip_finest)
        motion = self.estimate_motion(features0, features1)
        frame = self.synthesize(features0, features1, motion, t).frame
        return Interpolation(frame, *motion.full_resolution())


def encoded_levels(num_levels: int, skip_finest: int) -> list[int]:
    """Return the levels that a frame is encoded at, finest first."""
    return sorted({0, *range(skip_finest, num_levels)})


def check_levels(image: Tensor, num_levels: int, skip_finest: int) -> None:
    """Refuse levels that do not go together, or do not fit the image."""
    if num_levels < 1 or not 0 <= skip_finest < num_levels:
        raise InvalidInputError(
            "num_levels must be at least 1 and skip_finest from 0 to num_levels - 1, "
            f"got {num_levels} and {skip_finest}"
        )
    multiple = size_multiple(num_levels)
    if image.ndim != 4 or image.shape[1] != 3 or image.shape[2] % multiple or image.shape[3] % multiple:
        raise InvalidInputError(
            f"an image must be (B, 3, H, W) with H and W divisible by {multiple} for {num_levels} levels, "
            f"got {tuple(image.shape)}"
        )
