"""UPR-Net: a pyramid recurrent network for video frame interpolation.

Three convolutional boxes (`uprnet.network.boxes`), shared by all pyramid levels, with two operators between them:

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

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn

from uprnet.errors import InvalidInputError
from uprnet.network.boxes import FeaturePyramid, FlowEstimator, FrameSynthesis
from uprnet.network.config import ModelConfig, size_multiple
from uprnet.network.ops import blend, cost_volume, resize, splat_average, splat_average_both

#: Motion is estimated on a grid this many times coarser than its level.
FLOW_STRIDE = 4

#: The attributes of `UPRNet` that have weights.
BOXES = ("encoder", "flow_estimator", "synthesis")


class PyramidLevel(NamedTuple):
    """One level of one frame: the shrunk image and its features."""

    image: Tensor  # (B, 3, h, w)
    c0: Tensor  # (B, c, h, w)
    c1: Tensor  # (B, 2c, h/2, w/2)
    c2: Tensor  # (B, 4c, h/4, w/4)

    @property
    def has_features(self) -> bool:
        """Whether there is more than the image, and maybe c2."""
        return self.c0.shape[1] > 0


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
    raw: Tensor  # (B, 5, H, W) in (0, 1), what the synthesis says: `residual`, `mask0` and `mask1`, see `blend`
    frames: list[Tensor | None]  # the frame of each level, index = level

    @property
    def residual(self) -> Tensor:
        """What is added to ``merged``, ``(B, 3, H, W)`` in (-1, 1)."""
        return 2 * self.raw[:, :3] - 1

    @property
    def mask0(self) -> Tensor:
        """Trust in img0, ``(B, 1, H, W)`` in (0, 1)."""
        return self.raw[:, 3:4]

    @property
    def mask1(self) -> Tensor:
        """Trust in img1, ``(B, 1, H, W)`` in (0, 1)."""
        return self.raw[:, 4:5]


class Interpolation(NamedTuple):
    """What `UPRNet.forward` returns."""

    frame: Tensor  # (B, 3, H, W) in [0, 1]
    flow_01: Tensor  # (B, 2, H, W) full-resolution pixels
    flow_10: Tensor  # (B, 2, H, W) full-resolution pixels


def flows_to(t: Tensor, flow: Tensor) -> tuple[Tensor, Tensor]:
    """Return flow_0t and flow_1t, ``(B, 2, h, w)`` each, of a level's flow: what moves either frame to time ``t``."""
    return flow[:, :2] * t, flow[:, 2:] * (1 - t)


def warp_level(level: PyramidLevel, flow: Tensor, first_row: int = 0) -> PyramidLevel:
    """Warp a frame's image and features, or some rows of them.

    Args:
        level: The image and its features.
        flow: Displacement of every pixel, ``(B, 2, h, w)``, in pixels of the level's full size.
        first_row: Number of the first of these rows, a multiple of 4.
    """
    flow = flow.contiguous(memory_format=torch.channels_last)  # once for all
    half = 0.5 * resize(flow, 0.5)
    quarter = 0.5 * resize(half, 0.5)
    return PyramidLevel(
        *splat_average_both(level.image, level.c0, flow, first_row),
        splat_average(level.c1, half, first_row // 2),
        splat_average(level.c2, quarter, first_row // 4),
    )


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
            image: RGB in [0, 1], ``(B, 3, H, W)``, sizes divisible by ``2 ** (num_levels + 1)``. The features hold it,
                not a copy.
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
        return PyramidLevel(image, *self.encoder(image))

    def estimate_motion(self, features0: Features, features1: Features) -> Motion:
        """Estimate the motion of a pair, both ways, from coarse to fine; it does not depend on ``t``."""
        flows: list[Tensor | None] = [None] * len(features0.levels)
        coarsest = features0.level(len(flows) - 1).c2
        flow = torch.zeros_like(coarsest[:, :4])
        context = torch.zeros_like(coarsest)
        for index in features0.estimating:
            if index != len(flows) - 1:
                # The context is doubled along with the flow: a quirk that the official weights expect.
                flow, context = resize(2 * flow, 2), resize(2 * context, 2)
            flow, context = self._refine_flow(features0.level(index).c2, features1.level(index).c2, flow, context)
            flows[index] = flow
        if flows[0] is None:
            scale = 2**features0.skip_finest
            flows[0] = resize(scale * flow, scale)
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

    def synthesize(
        self,
        features0: Features,
        features1: Features,
        motion: Motion,
        t: float | Tensor,
        coarse: Tensor | None = None,
    ) -> Synthesis:
        """Make the frame at time ``t`` from what is known of the pair.

        Args:
            features0: Features of the first frame.
            features1: Features of the second frame.
            motion: Motion between them.
            t: Time in (0, 1), one for all or ``(B,)``, one for each item of the batch.
            coarse: What `synthesize_coarse` made for this time: only the finest level is left to do, and
                `Synthesis.frames` has no other.
        """
        levels = features0.synthesizing if coarse is None else [0]
        return self._synthesize_levels(levels, features0, features1, motion, t, coarse)

    def synthesize_coarse(
        self, features0: Features, features1: Features, motion: Motion, t: float | Tensor
    ) -> Tensor | None:
        """Make the frame of the level before the finest, ``(B, 3, h, w)``; None where there is one level only.

        Small pictures are made faster together: several times of one pair, as a batch of it expanded.
        """
        levels = features0.synthesizing[:-1]
        return self._synthesize_levels(levels, features0, features1, motion, t, None).frame if levels else None

    def _synthesize_levels(
        self,
        levels: list[int],
        features0: Features,
        features1: Features,
        motion: Motion,
        t: float | Tensor,
        coarse: Tensor | None,
    ) -> Synthesis:
        image = features0.level(0).image
        time = torch.as_tensor(t, dtype=image.dtype, device=image.device).view(-1, 1, 1, 1)
        frames: list[Tensor | None] = [None] * len(features0.levels)
        synthesis: Synthesis | None = None
        for index in levels:
            flow = motion.flows[index]
            assert flow is not None  # motion has every level that the features have
            synthesis = self._synthesize_level(features0.level(index), features1.level(index), flow, time, coarse)
            coarse = frames[index] = synthesis.frame
        assert synthesis is not None
        return synthesis._replace(frames=frames)

    def _synthesize_level(
        self, level0: PyramidLevel, level1: PyramidLevel, flow: Tensor, t: Tensor, coarse: Tensor | None
    ) -> Synthesis:
        flows = [resize(part, FLOW_STRIDE) for part in flows_to(t, flow)]
        if coarse is not None:
            coarse = resize(coarse, level0.image.shape[-1] // coarse.shape[-1])
        warped = [warp_level(level, part) for level, part in zip((level0, level1), flows, strict=True)]
        return self.compose(level0.image, level1.image, warped, flows, t, coarse)

    def compose(
        self,
        image0: Tensor,
        image1: Tensor,
        warped: list[PyramidLevel],
        flows: Sequence[Tensor],
        t: Tensor,
        coarse: Tensor | None,
    ) -> Synthesis:
        """Make the frame of a level, or of some rows of it, from both frames warped to time ``t``.

        Args:
            image0: The first image, ``(B, 3, h, w)``.
            image1: The second image, ``(B, 3, h, w)``.
            warped: Both frames' images and features, warped; the list is emptied, and features dropped once used.
            flows: What warped them, flow_0t and flow_1t, ``(B, 2, h, w)`` each.
            t: Time, ``(B, 1, 1, 1)`` or ``(1, 1, 1, 1)``.
            coarse: The coarser level's frame at this level's size; None at the coarsest level.
        """
        (warped0, warped1), *features = (list(part) for part in zip(*warped, strict=True))
        warped.clear()
        if coarse is None:
            coarse = (1 - t) * warped0 + t * warped1
        raw = torch.sigmoid(self.synthesis([coarse, warped0, warped1, image0, image1, *flows], *features))
        frame, merged = blend(warped0, warped1, raw, t)
        return Synthesis(frame, merged, raw, [])

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
