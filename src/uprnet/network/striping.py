"""The network in stripes of rows, for pictures whose features do not fit into memory.

A stripe of the result needs a few rows more of everything that it is computed from: those that the convolutions see
beyond its edge (its *halo*), and those that motion carries into it. Both are known exactly, so that a picture in
stripes equals the whole one up to the order in which sums are rounded. What is done twice, at the seams, costs time.

What is kept, and what is made anew:
    Levels from `Plan.kept_from` on keep their features, as without stripes: they serve all times of a pair, and the
    next pair. Of finer levels the image is kept, and c2 if motion is estimated from it; their other features are made
    anew for every new frame, a stripe at a time. Motion and the frames of all levels are always there as a whole.

Convention:
    Rows are a ``range``, counted from the top of the picture at the level's full size.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from uprnet.network.model import (
    FLOW_STRIDE,
    Features,
    PyramidLevel,
    Synthesis,
    UPRNet,
    check_levels,
    encoded_levels,
    flows_to,
    warp_level,
)
from uprnet.network.ops import cost_volume, resize
from uprnet.network.ops.cpu_kernels import RADIUS

#: Stripes begin at multiples of so many rows: half and quarter size are then cut between rows, and an engine that
#: computes tiles of 4 x 4 pixels cuts stripes into the same tiles as the whole picture.
ROW_MULTIPLE = 16

#: Rows above and below that `FeaturePyramid` sees beyond those that it is asked for: 25 and 22, up to a multiple.
ENCODER_HALO = (32, 24)

#: Rows above and below that `FrameSynthesis` sees beyond those that it is asked for: 29 and 26, up to a multiple.
SYNTHESIS_HALO = (32, 28)

#: Rows of its quarter grid that `FlowEstimator` sees beyond those that it is asked for: five 3 x 3 convolutions.
ESTIMATOR_HALO = 5

#: Motion is estimated in stripes that are so many times as large: it takes about 1 / 4 of the synthesis's memory.
ESTIMATOR_SHARE = 4

#: Pixels by which a block of 4 source rows may lie beyond the rows that it reaches; one of them is for rounding.
REACH_MARGIN = FLOW_STRIDE + 1


@dataclass(frozen=True)
class Plan:
    """How the work on a picture is cut.

    Attributes:
        pixels: Pixels of a stripe without its halo, at any level; None for whole levels.
        kept_from: The finest level whose features are kept; 0 keeps all.
    """

    pixels: int | None = None
    kept_from: int = 0

    def rows(self, batch: int, height: int, width: int) -> int:
        """Return the rows of a stripe of pictures of this size: a multiple of `ROW_MULTIPLE`, or the height."""
        if self.pixels is None:
            return height
        return min(height, max(1, self.pixels // (batch * width * ROW_MULTIPLE)) * ROW_MULTIPLE)


class StripedUPRNet(UPRNet):
    """A loaded `UPRNet` that works by a `Plan`, for inference; it shares the boxes of ``model``.

    Args:
        model: The network.
        plan: How the work is cut.
        with_details: Whether a `Synthesis` holds more than the frame; if not, its other parts have no channels.

    Example:
        >>> model = UPRNet()
        >>> striped = StripedUPRNet(model, Plan(pixels=32 * 64))
        >>> images = torch.rand(2, 1, 3, 128, 64)
        >>> with torch.inference_mode():
        ...     torch.allclose(striped(*images).frame, model(*images).frame, atol=1e-5)
        True
    """

    def __init__(self, model: UPRNet, plan: Plan, *, with_details: bool = True) -> None:
        nn.Module.__init__(self)
        self.config = model.config
        self.encoder, self.flow_estimator, self.synthesis = model.encoder, model.flow_estimator, model.synthesis
        self.plan = plan
        self.with_details = with_details

    def encode(self, image: Tensor, num_levels: int = 3, skip_finest: int = 0) -> Features:
        """Compute what the plan keeps of a frame; see `UPRNet.encode`."""
        check_levels(image, num_levels, skip_finest)
        levels: list[PyramidLevel | None] = [None] * num_levels
        for index in encoded_levels(num_levels, skip_finest):
            shrunk = resize(image, 0.5**index) if index else image
            if index >= self.plan.kept_from:
                levels[index] = self._encode_level(shrunk)
            else:
                levels[index] = self._encode_little(shrunk, with_c2=index >= skip_finest)
        return Features(levels, skip_finest)

    def _encode_little(self, image: Tensor, *, with_c2: bool) -> PyramidLevel:
        """Return a level that is not kept: its image, maybe its c2, and no channels of the rest."""
        c0, c1, c2 = (image[:, :0, ::stride, ::stride] for stride in (1, 2, 4))
        if with_c2:
            stripes = self._stripes(image)
            (c2,) = _joined(image.shape[2], ((rows, (self.encode_rows(image, rows).c2,)) for rows in stripes))
        return PyramidLevel(image, c0, c1, c2)

    def _stripes(self, image: Tensor) -> list[range]:
        batch, _, height, width = image.shape
        rows = self.plan.rows(batch, height, width)
        return [range(first, min(first + rows, height)) for first in range(0, height, rows)]

    def encode_rows(self, image: Tensor, rows: range) -> PyramidLevel:
        """Compute the features of some rows of an image."""
        seen = _widened(rows, ENCODER_HALO, image.shape[2])
        return _cut(self._encode_level(image[:, :, seen.start : seen.stop]), _within(rows, seen))

    def _refine_flow(self, c2_0: Tensor, c2_1: Tensor, flow: Tensor, context: Tensor) -> tuple[Tensor, Tensor]:
        batch, _, height, width = flow.shape
        rows = self.plan.rows(batch, FLOW_STRIDE * height, FLOW_STRIDE * width // ESTIMATOR_SHARE) // FLOW_STRIDE
        if rows == height:
            return super()._refine_flow(c2_0, c2_1, flow, context)
        warped0, warped1 = self._warp_to_middle(c2_0, c2_1, flow)

        def stripe(wanted: range) -> tuple[Tensor, Tensor]:
            seen = _widened(wanted, (ESTIMATOR_HALO, ESTIMATOR_HALO), height)
            compared = _widened(seen, (RADIUS, RADIUS), height)
            costs = cost_volume(*(_rows_of(warped, compared) for warped in (warped0, warped1)))
            inputs = (_rows_of(tensor, seen) for tensor in (warped0, warped1, context, flow))
            flow_rows, context_rows = self.flow_estimator(_rows_of(costs, _within(seen, compared)), *inputs)
            inside = _within(wanted, seen)
            return _rows_of(flow_rows, inside), _rows_of(context_rows, inside)

        stripes = [range(first, min(first + rows, height)) for first in range(0, height, rows)]
        new_flow, new_context = _joined(height, ((wanted, stripe(wanted)) for wanted in stripes))
        return new_flow, new_context

    def _synthesize_level(
        self, level0: PyramidLevel, level1: PyramidLevel, flow: Tensor, t: Tensor, coarse: Tensor | None
    ) -> Synthesis:
        stripes = self._stripes(level0.image)
        if len(stripes) == 1 and level0.has_features:
            return self._asked_for(super()._synthesize_level(level0, level1, flow, t, coarse))
        height = level0.image.shape[2]
        seen = [_widened(rows, SYNTHESIS_HALO, height) for rows in stripes]
        sources = [
            _Source(self, level, part, _rows_that_reach(seen, part, height))
            for level, part in zip((level0, level1), flows_to(t, flow), strict=True)
        ]

        def stripe(number: int) -> tuple[Tensor, ...]:
            rows, wide = stripes[number], seen[number]
            warped, flows = map(list, zip(*(source.warped(number, wide) for source in sources), strict=True))
            synthesis = self.compose(
                _rows_of(level0.image, wide),
                _rows_of(level1.image, wide),
                warped,
                flows,
                t,
                None if coarse is None else _resized_rows(coarse, height // coarse.shape[2], wide),
            )
            return tuple(_rows_of(part, _within(rows, wide)) for part in self._asked_for(synthesis)[:3])

        frame, merged, raw = _joined(height, ((rows, stripe(number)) for number, rows in enumerate(stripes)))
        return Synthesis(frame, merged, raw, frames=[])

    def _asked_for(self, synthesis: Synthesis) -> Synthesis:
        """Leave out the details if they are not asked for."""
        if self.with_details:
            return synthesis
        nothing = synthesis.frame[:, :0]
        return Synthesis(synthesis.frame, nothing, nothing, synthesis.frames)


class _Source:
    """One frame of a pair, from which stripes of the new frame are warped, top to bottom.

    Args:
        network: What encodes rows that are not kept.
        level: The frame at one level.
        flow: What moves it to the new frame's time, ``(B, 2, h/4, w/4)``.
        needed: For each stripe the rows that are needed to warp it.
    """

    def __init__(self, network: StripedUPRNet, level: PyramidLevel, flow: Tensor, needed: list[range]) -> None:
        self.needed = needed
        self._network, self._level, self._flow = network, level, flow
        self._overlap: tuple[range, PyramidLevel] = range(0), level  # rows that the next stripe needs, too

    def warped(self, number: int, wanted: range) -> tuple[PyramidLevel, Tensor]:
        """Return rows ``wanted`` of the warped frame, and the flow of these rows, ``(B, 2, rows, w)``."""
        needed = self.needed[number]
        flow = _resized_rows(self._flow, FLOW_STRIDE, needed)
        inside = _within(wanted, needed)
        return _cut(warp_level(self._features(number), flow, needed.start), inside), _rows_of(flow, inside)

    def _features(self, number: int) -> PyramidLevel:
        needed = self.needed[number]
        if self._level.has_features:
            return _cut(self._level, needed)
        features = self._encode(needed)
        following = self.needed[number + 1] if number + 1 < len(self.needed) else range(0)
        shared = _common(needed, following)
        copies = (part.clone() for part in _cut(features, _within(shared, needed)))
        self._overlap = shared, PyramidLevel(*copies)
        return features

    def _encode(self, needed: range) -> PyramidLevel:
        """Encode rows, but take those from the stripe above that it needed, too."""
        shared, there = self._overlap
        self._overlap = range(0), self._level
        if len(shared) == 0:
            return self._network.encode_rows(self._level.image, needed)

        def parts() -> Iterator[tuple[range, PyramidLevel]]:
            yield _within(shared, needed), there
            for rows in (range(needed.start, shared.start), range(shared.stop, needed.stop)):
                if len(rows):
                    yield _within(rows, needed), self._network.encode_rows(self._level.image, rows)

        return PyramidLevel(*_joined(len(needed), parts()))


def _rows_that_reach(stripes: Sequence[range], flow: Tensor, height: int) -> list[range]:
    """Return for each stripe the rows that it takes to warp it: its own, and all that motion carries into it.

    Args:
        stripes: Rows of the warped picture.
        flow: Displacement at a quarter of the size, ``(B, 2, height/4, w/4)``, in pixels of the full size.
        height: Rows of the picture.
    """
    dy = flow[:, 1].nan_to_num(0, posinf=0, neginf=0)  # a pixel whose flow is not finite reaches nothing
    # Resizing to full size mixes each row of the quarter grid with its neighbours.
    highest = F.max_pool1d(dy.amax(dim=(0, 2))[None], 3, stride=1, padding=1)[0]
    lowest = -F.max_pool1d(-dy.amin(dim=(0, 2))[None], 3, stride=1, padding=1)[0]
    block = FLOW_STRIDE * torch.arange(len(highest), device=flow.device)
    to_highest, to_lowest = (block + highest).tolist(), (block + lowest).tolist()
    needed = []
    for rows in stripes:
        reaching = [
            FLOW_STRIDE * index
            for index, (low, high) in enumerate(zip(to_lowest, to_highest, strict=True))
            if high > rows.start - REACH_MARGIN and low < rows.stop + REACH_MARGIN
        ]
        first, last = min([rows.start, *reaching]), max([rows.stop - 1, *reaching])
        needed.append(
            range(first // ROW_MULTIPLE * ROW_MULTIPLE, min(last // ROW_MULTIPLE * ROW_MULTIPLE + ROW_MULTIPLE, height))
        )
    return needed


def _resized_rows(tensor: Tensor, scale: int, rows: range) -> Tensor:
    """Return ``rows`` of ``resize(tensor, scale)``."""
    source = _widened(range(rows.start // scale, -(-rows.stop // scale)), (1, 1), tensor.shape[2])
    resized = resize(_rows_of(tensor, source), scale)
    return _rows_of(resized, _within(rows, range(source.start * scale, source.stop * scale)))


def _joined(height: int, parts: Iterable[tuple[range, tuple[Tensor, ...]]]) -> list[Tensor]:
    """Put stripes together; each has its rows of the whole, and tensors of that height or a half or quarter of it."""
    whole: list[Tensor] = []
    for rows, tensors in parts:
        whole = whole or [_empty_like(tensor, height * tensor.shape[2] // len(rows)) for tensor in tensors]
        for target, tensor in zip(whole, tensors, strict=True):
            first = rows.start * tensor.shape[2] // len(rows)
            target[:, :, first : first + tensor.shape[2]] = tensor
        del tensors, tensor  # before the next stripe is computed
    return whole


def _empty_like(tensor: Tensor, height: int) -> Tensor:
    """Return an uninitialised tensor of another height, channels-last."""
    batch, channels, _, width = tensor.shape
    return tensor.new_empty((batch, height, width, channels)).permute(0, 3, 1, 2)


def _cut(level: PyramidLevel, rows: range) -> PyramidLevel:
    """Return some rows of a level, multiples of 4."""
    strides = (1, 1, 2, 4)
    return PyramidLevel(*(part[:, :, rows.start // n : rows.stop // n] for part, n in zip(level, strides, strict=True)))


def _rows_of(tensor: Tensor, rows: range) -> Tensor:
    return tensor[:, :, rows.start : rows.stop]


def _widened(rows: range, halo: tuple[int, int], height: int) -> range:
    return range(max(0, rows.start - halo[0]), min(height, rows.stop + halo[1]))


def _within(rows: range, outer: range) -> range:
    """Return ``rows`` as counted from the first of ``outer``."""
    return range(rows.start - outer.start, rows.stop - outer.start)


def _common(rows: range, others: range) -> range:
    first = max(rows.start, others.start)
    return range(first, max(first, min(rows.stop, others.stop)))
