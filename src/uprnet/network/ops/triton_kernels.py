"""The loops behind `uprnet.network.ops.triton`, compiled by Triton for the GPU at hand.

Tensors are ``(B, H, W, C)``, contiguous. A program takes ``block_p`` pixels, counted through the whole batch, and
``block_c`` of their channels. Pixels are counted in 32 bits, which divide faster; places in memory in 64. Sums are
kept in float32, those of float64 in float64 (``is_double``). Sizes of pictures are arguments that Triton must not
specialise on, so that one compiled kernel serves every size; only the types, ``block_c`` and whether the channels are
a multiple of 16 make another one.
"""

# Triton has no types, and it reads the annotations of a kernel itself.
# mypy: disable-error-code="import-not-found, import-untyped, no-untyped-def, untyped-decorator"

from __future__ import annotations

from typing import Any

import triton
import triton.language as tl

#: What differs from picture to picture: sizes, and where in a tensor of both ways the flow one way starts.
_VARYING: Any = {
    "do_not_specialize": ["pixels", "height", "width", "flow_b", "flow_c", "flow_y", "flow_x", "nowhere"],
    "do_not_specialize_on_alignment": ["flow"],
}


@triton.jit
def _places(pixel, channel, channels):
    """Return where the channels of pixels stand in memory, counted in elements."""
    return pixel.to(tl.int64)[:, None] * channels + channel[None, :]


@triton.jit
def _landing(flow, pixel, there, height, width, flow_b, flow_c, flow_y, flow_x, real: tl.constexpr):
    """Return where source pixels land: whether they do, the position, the top left of the four neighbours, the image.

    A pixel that leaves the picture with all four neighbours, or whose flow is not finite, does not land. The flow
    comes with its strides, because the flow one way is half of a tensor that holds both ways.
    """
    image = pixel // width // height
    x = pixel % width
    y = pixel // width % height
    flow += image.to(tl.int64) * flow_b + y * flow_y + x * flow_x
    to_x = x.to(real) + tl.load(flow, mask=there, other=0).to(real)
    to_y = y.to(real) + tl.load(flow + flow_c, mask=there, other=0).to(real)
    lands = there & (to_x > -1) & (to_x < width) & (to_y > -1) & (to_y < height)  # false for NaN and inf
    # Kept near the picture, NaN too. A `tl.where` would say it better, but Triton 3.6 fails on it (16 channels).
    to_x = tl.maximum(tl.minimum(to_x, width), -1)
    to_y = tl.maximum(tl.minimum(to_y, height), -1)
    return lands, to_x, to_y, tl.floor(to_x).to(tl.int32), tl.floor(to_y).to(tl.int32), image


@triton.jit(**_VARYING)
def splat_add(
    source, flow, sums, weights,
    pixels, height, width, flow_b, flow_c, flow_y, flow_x, channels,
    is_double: tl.constexpr, block_p: tl.constexpr, block_c: tl.constexpr,
):  # fmt: skip
    """Add every source pixel, times its weight, to the four pixels around its landing place, in any order."""
    real: tl.constexpr = tl.float64 if is_double else tl.float32
    pixel = tl.program_id(0) * block_p + tl.arange(0, block_p)
    there = pixel < pixels
    channel = tl.program_id(1) * block_c + tl.arange(0, block_c)
    lands, to_x, to_y, left, top, image = _landing(
        flow, pixel, there, height, width, flow_b, flow_c, flow_y, flow_x, real
    )
    used = lands[:, None] & (channel < channels)[None, :]
    value = tl.load(source + _places(pixel, channel, channels), mask=used, other=0).to(real)
    for below in tl.static_range(2):
        row = top + below
        row_weight = to_y - top if below == 1 else top + 1 - to_y
        for beside in tl.static_range(2):
            column = left + beside
            weight = row_weight * (to_x - left if beside == 1 else left + 1 - to_x)
            inside = lands & (row >= 0) & (row < height) & (column >= 0) & (column < width)
            target = (image * height + row) * width + column
            if tl.program_id(1) == 0:
                tl.atomic_add(weights + target, weight, mask=inside, sem="relaxed")
            place = sums + _places(target, channel, channels)
            tl.atomic_add(place, weight[:, None] * value, mask=inside[:, None] & used, sem="relaxed")


@triton.jit(**_VARYING)
def splat_divide(sums, weights, out, pixels, channels, block_p: tl.constexpr, block_c: tl.constexpr):
    """Divide what `splat_add` summed by the weights that arrived; where none did, the result is 0."""
    pixel = tl.program_id(0) * block_p + tl.arange(0, block_p)
    there = pixel < pixels
    channel = tl.program_id(1) * block_c + tl.arange(0, block_c)
    weight = tl.load(weights + pixel, mask=there, other=1)
    place = _places(pixel, channel, channels)
    used = there[:, None] & (channel < channels)[None, :]
    total = tl.load(sums + place, mask=used, other=0)
    tl.store(out + place, total / tl.where(weight == 0, 1, weight)[:, None], mask=used)


@triton.jit(**_VARYING)
def splat_cells(
    flow, cells, pixels, height, width, flow_b, flow_c, flow_y, flow_x, nowhere,
    is_double: tl.constexpr, block_p: tl.constexpr,
):  # fmt: skip
    """Write the cell that each source pixel lands in; ``nowhere`` if it does not.

    A cell is the square between four pixels. There are ``(height + 1) x (width + 1)`` of them an image, because
    the top left pixel of a cell may lie one row above and one column left of the picture.
    """
    real: tl.constexpr = tl.float64 if is_double else tl.float32
    pixel = tl.program_id(0) * block_p + tl.arange(0, block_p)
    there = pixel < pixels
    lands, _, _, left, top, image = _landing(flow, pixel, there, height, width, flow_b, flow_c, flow_y, flow_x, real)
    cell = (image * (height + 1) + top + 1) * (width + 1) + left + 1
    tl.store(cells + pixel, tl.where(lands, cell, nowhere), mask=there)


@triton.jit(**_VARYING)
def splat_gather(
    source, flow, order, starts, out, weights,
    pixels, height, width, flow_b, flow_c, flow_y, flow_x, channels,
    is_double: tl.constexpr, block_p: tl.constexpr, block_c: tl.constexpr,
):  # fmt: skip
    """Average, for each target pixel, the source pixels of the four cells around it, in the order of ``order``.

    ``order`` lists the source pixels by cell, and those of cell ``i`` stand from ``starts[i]`` to
    ``starts[i + 1] - 1``. The same sums in the same order make the same bits on every run.
    """
    real: tl.constexpr = tl.float64 if is_double else tl.float32
    pixel = tl.program_id(0) * block_p + tl.arange(0, block_p)
    there = pixel < pixels
    channel = tl.program_id(1) * block_c + tl.arange(0, block_c)
    image = pixel // width // height
    x = pixel % width
    y = pixel // width % height
    total = tl.zeros((block_p, block_c), dtype=real)
    weight = tl.zeros((block_p,), dtype=real)
    for below in tl.static_range(2):  # whether the target lies at the bottom of the cell
        for beside in tl.static_range(2):  # and whether at its right
            cell = (image * (height + 1) + y + 1 - below) * (width + 1) + x + 1 - beside
            start = tl.load(starts + cell, mask=there, other=0)
            count = tl.load(starts + cell + 1, mask=there, other=0) - start
            for i in range(tl.max(count)):
                more = there & (i < count)
                origin = tl.load(order + start + i, mask=more, other=0).to(tl.int32)
                _, to_x, to_y, left, top, _ = _landing(
                    flow, origin, more, height, width, flow_b, flow_c, flow_y, flow_x, real
                )
                row_weight = to_y - top if below == 1 else top + 1 - to_y
                part = row_weight * (to_x - left if beside == 1 else left + 1 - to_x)
                part = tl.where(more, part, 0)
                used = more[:, None] & (channel < channels)[None, :]
                value = tl.load(source + _places(origin, channel, channels), mask=used, other=0)
                total += part[:, None] * value.to(real)
                weight += part
    used = there[:, None] & (channel < channels)[None, :]
    mean = total / tl.where(weight == 0, 1, weight)[:, None]
    tl.store(out + _places(pixel, channel, channels), mean, mask=used)
    if tl.program_id(1) == 0:
        tl.store(weights + pixel, weight, mask=there)


@triton.jit(**_VARYING)
def splat_backward(
    grad, source, flow, warped, weights, grad_source, grad_flow,
    pixels, height, width, flow_b, flow_c, flow_y, flow_x, channels,
    is_double: tl.constexpr, block_p: tl.constexpr, block_c: tl.constexpr,
):  # fmt: skip
    """Write the gradients of the source pixels.

    With ``warped = sum(w * source) / sum(w)``: d warped / d source = w / sum(w), and
    d warped / d w = (source - warped) / sum(w); w is bilinear in the position.
    """
    real: tl.constexpr = tl.float64 if is_double else tl.float32
    pixel = tl.program_id(0) * block_p + tl.arange(0, block_p)
    there = pixel < pixels
    lands, to_x, to_y, left, top, image = _landing(
        flow, pixel, there, height, width, flow_b, flow_c, flow_y, flow_x, real
    )
    grad_x = tl.zeros((block_p,), dtype=real)
    grad_y = tl.zeros((block_p,), dtype=real)
    for first in range(0, channels, block_c):
        channel = first + tl.arange(0, block_c)
        known = (channel < channels)[None, :]
        origin = _places(pixel, channel, channels)
        value = tl.load(source + origin, mask=lands[:, None] & known, other=0).to(real)
        total = tl.zeros((block_p, block_c), dtype=real)
        for below in tl.static_range(2):
            row = top + below
            y_weight = to_y - top if below == 1 else top + 1 - to_y
            for beside in tl.static_range(2):
                column = left + beside
                x_weight = to_x - left if beside == 1 else left + 1 - to_x
                inside = lands & (row >= 0) & (row < height) & (column >= 0) & (column < width)
                target = (image * height + row) * width + column
                arrived = tl.load(weights + target, mask=inside, other=1)
                scale = 1 / tl.where(arrived == 0, 1, arrived)
                place = _places(target, channel, channels)
                used = inside[:, None] & known
                slope = tl.load(grad + place, mask=used, other=0).to(real)
                mean = tl.load(warped + place, mask=used, other=0).to(real)
                total += (x_weight * y_weight * scale)[:, None] * slope
                grad_weight = tl.sum(tl.where(used, (value - mean) * slope, 0), axis=1) * scale
                grad_x += (y_weight if beside == 1 else -y_weight) * grad_weight
                grad_y += (x_weight if below == 1 else -x_weight) * grad_weight
        tl.store(grad_source + origin, total, mask=there[:, None] & known)
    place = pixel.to(tl.int64) * 2
    tl.store(grad_flow + place, grad_x, mask=there)
    tl.store(grad_flow + place + 1, grad_y, mask=there)


@triton.jit(**_VARYING)
def cost_volume(
    features0, features1, costs, pixels, height, width, channels,
    radius: tl.constexpr, is_double: tl.constexpr, block_p: tl.constexpr, block_c: tl.constexpr,
):  # fmt: skip
    """Write the costs of one row of displacements, `tl.program_id(1)`, from the left to the right."""
    side: tl.constexpr = 2 * radius + 1
    real: tl.constexpr = tl.float64 if is_double else tl.float32
    pixel = tl.program_id(0) * block_p + tl.arange(0, block_p)
    there = pixel < pixels
    dy = tl.program_id(1) - radius
    x = pixel % width
    y = pixel // width % height
    in_rows = there & (y + dy >= 0) & (y + dy < height)
    for dx in range(-radius, radius + 1):
        inside = in_rows & (x + dx >= 0) & (x + dx < width)
        products = tl.zeros((block_p, block_c), dtype=real)
        for first in range(0, channels, block_c):
            channel = first + tl.arange(0, block_c)
            used = inside[:, None] & (channel < channels)[None, :]
            origin = _places(pixel, channel, channels)
            value0 = tl.load(features0 + origin, mask=used, other=0).to(real)
            value1 = tl.load(features1 + _places(pixel + dy * width + dx, channel, channels), mask=used, other=0).to(
                real
            )
            products += value0 * value1
        place = pixel.to(tl.int64) * (side * side) + (dy + radius) * side + dx + radius
        tl.store(costs + place, tl.sum(products, axis=1) / channels, mask=there)


@triton.jit(**_VARYING)
def cost_volume_backward(
    grad, features0, features1, grad0, grad1, pixels, height, width, channels,
    radius: tl.constexpr, is_double: tl.constexpr, block_p: tl.constexpr, block_c: tl.constexpr,
):  # fmt: skip
    """Write the gradients of both frames' features."""
    side: tl.constexpr = 2 * radius + 1
    real: tl.constexpr = tl.float64 if is_double else tl.float32
    pixel = tl.program_id(0) * block_p + tl.arange(0, block_p)
    there = pixel < pixels
    channel = tl.program_id(1) * block_c + tl.arange(0, block_c)
    known = (channel < channels)[None, :]
    x = pixel % width
    y = pixel // width % height
    total0 = tl.zeros((block_p, block_c), dtype=real)
    total1 = tl.zeros((block_p, block_c), dtype=real)
    for displacement in range(side * side):
        dy = displacement // side - radius
        dx = displacement % side - radius
        inside = there & (y + dy >= 0) & (y + dy < height) & (x + dx >= 0) & (x + dx < width)
        near = pixel + dy * width + dx
        # This pixel of frame 0 met the near one of frame 1 at (dx, dy), and the near one of frame 0 met this one of
        # frame 1 at (-dx, -dy), whose channel counts from the end.
        slope0 = tl.load(grad + pixel.to(tl.int64) * (side * side) + displacement, mask=inside, other=0).to(real)
        slope1 = tl.load(grad + (near + 1).to(tl.int64) * (side * side) - 1 - displacement, mask=inside, other=0).to(
            real
        )
        place = _places(near, channel, channels)
        used = inside[:, None] & known
        total0 += slope0[:, None] * tl.load(features1 + place, mask=used, other=0).to(real)
        total1 += slope1[:, None] * tl.load(features0 + place, mask=used, other=0).to(real)
    origin = _places(pixel, channel, channels)
    tl.store(grad0 + origin, total0 / channels, mask=there[:, None] & known)
    tl.store(grad1 + origin, total1 / channels, mask=there[:, None] & known)
