"""The loops behind `uprnet.network.ops.cpu`, compiled by numba and cached on disk.

Arrays are ``(B, H, W, C)``, contiguous, float32 or float64. Each kernel writes the rows ``first`` to ``end - 1`` of
its outputs, releases the interpreter lock, and checks every position before it touches memory.
"""

from __future__ import annotations

import math

import numpy as np

from uprnet.network.ops.jit import jit
from uprnet.network.ops.vectors import add_to_four, copy_scaled, sum_of_four

#: Largest displacement of the cost volume, in pixels of the features, in each direction (section 3.2 of the paper,
#: as in PWC-Net). Numba bakes it into the compiled code.
RADIUS = 4

#: Displacements in each direction, and in all.
SIDE = 2 * RADIUS + 1
NUM_DISPLACEMENTS = SIDE * SIDE

# Sums may be reordered (for vector instructions) and multiply-adds fused; NaN and inf keep their meaning.
_REORDER = {"reassoc", "contract"}


@jit()
def reach(flow, lowest, highest, first, end):  # type: ignore[no-untyped-def]
    """Write the smallest and largest finite dy of each row from ``first`` to ``end``; inf and -inf if there is none."""
    batch, _, width, _ = flow.shape
    real = flow.dtype.type
    for b in range(batch):
        for y in range(first, end):
            low, high = real(np.inf), real(-np.inf)
            for x in range(width):
                dy = flow[b, y, x, 1]
                if abs(dy) < real(np.inf):  # false for NaN, too
                    low, high = min(low, dy), max(high, dy)
            lowest[b, y], highest[b, y] = low, high


def numbers_of_sums(rows: int, width: int, channels: int, others: int) -> int:
    """Return how many numbers `splat` needs for its sums, for so many rows at once."""
    return int((rows + 2) * (width + 2) * (_fours(channels) + _fours(others) + 1))


@jit()
def _fours(channels):  # type: ignore[no-untyped-def]
    """Return the next multiple of 4."""
    return (channels + 3) // 4 * 4


@jit(fastmath={"contract"})
def splat(source, other, flow, lowest, highest, out, other_out, weight, scratch, first, end):  # type: ignore[no-untyped-def]
    """Average-splat ``source`` and ``other`` into rows ``first`` to ``end`` of their outs; write the weights, too.

    ``lowest`` and ``highest`` are what `reach` writes: rows from which nothing comes here need not be looked at.
    Sums are kept apart, in ``scratch``, with a margin of a pixel all around: each source pixel has four to go to. The
    sources may have one item for all of the batch.
    """
    batch, height, width, channels = out.shape
    others = other.shape[3]
    real = source.dtype.type
    pixel, other_pixel = channels * source.itemsize, others * source.itemsize
    rows, columns, numbers = end - first + 2, width + 2, _fours(channels) + _fours(others)
    pixel_step, other_step = numbers * source.itemsize, _fours(channels) * source.itemsize
    row_step = columns * pixel_step
    sums = scratch[: rows * columns * numbers]
    weights = scratch[sums.size : sums.size + rows * columns].reshape(rows, columns)
    for b in range(batch):
        item, other_item = b % len(source) * height, b % len(other) * height
        sums[:] = 0
        weights[:] = 0
        for y in range(height):
            if not (real(y) + highest[b, y] > first - 1 and real(y) + lowest[b, y] < end):
                continue
            for x in range(width):
                to_x = real(x) + flow[b, y, x, 0]
                to_y = real(y) + flow[b, y, x, 1]
                # False for NaN, for inf and for all that misses this band.
                if not (to_x > -1 and to_x < width and to_y > first - 1 and to_y < end):
                    continue
                left, top = int(to_x) - (to_x < 0), int(to_y) - (to_y < 0)  # floor, which takes twice as long
                right_weight, bottom_weight = to_x - real(left), to_y - real(top)
                left_weight, top_weight = real(left + 1) - to_x, real(top + 1) - to_y
                top_left, top_right = top_weight * left_weight, top_weight * right_weight
                bottom_left, bottom_right = bottom_weight * left_weight, bottom_weight * right_weight
                row, column = top - first + 1, left + 1
                weights[row, column] += top_left
                weights[row, column + 1] += top_right
                weights[row + 1, column] += bottom_left
                weights[row + 1, column + 1] += bottom_right
                factors = (top_left, top_right, bottom_left, bottom_right)
                there = sums.ctypes.data + row * row_step + column * pixel_step
                here = source.ctypes.data + ((item + y) * width + x) * pixel
                add_to_four(there, row_step, pixel_step, here, channels, *factors)
                here = other.ctypes.data + ((other_item + y) * width + x) * other_pixel
                add_to_four(there + other_step, row_step, pixel_step, here, others, *factors)
        for y in range(first, end):
            for x in range(width):
                w = weights[y - first + 1, x + 1]
                weight[b, y, x] = w
                scale = real(1) / w if w != 0 else real(1)
                place = (b * height + y) * width + x
                here = sums.ctypes.data + (y - first + 1) * row_step + (x + 1) * pixel_step
                copy_scaled(out.ctypes.data + place * pixel, here, channels, scale)
                copy_scaled(other_out.ctypes.data + place * other_pixel, here + other_step, others, scale)


@jit(fastmath=_REORDER)
def splat_backward(grad, source, flow, warped, weight, grad_source, grad_flow, first, end):  # type: ignore[no-untyped-def]
    """Write the gradients of the source pixels in rows ``first`` to ``end``.

    With ``out = sum(w * source) / sum(w)``: d out / d source = w / sum(w), and
    d out / d w = (source - out) / sum(w); w is bilinear in the position.
    """
    batch, height, width, channels = source.shape
    for b in range(batch):
        for y in range(first, end):
            for x in range(width):
                for c in range(channels):
                    grad_source[b, y, x, c] = 0
                grad_x = grad_y = source.dtype.type(0)
                to_x = x + flow[b, y, x, 0]
                to_y = y + flow[b, y, x, 1]
                if to_x > -1 and to_x < width and to_y > -1 and to_y < height:
                    left, top = math.floor(to_x), math.floor(to_y)
                    for row in range(max(top, 0), min(top + 2, height)):
                        y_weight, y_sign = (to_y - top, 1) if row > top else (top + 1 - to_y, -1)
                        for column in range(max(left, 0), min(left + 2, width)):
                            x_weight, x_sign = (to_x - left, 1) if column > left else (left + 1 - to_x, -1)
                            total = weight[b, row, column]
                            scale = 1 / total if total != 0 else source.dtype.type(1)
                            w = source.dtype.type(x_weight * y_weight * scale)
                            grad_w = source.dtype.type(0)
                            for c in range(channels):
                                g = grad[b, row, column, c]
                                grad_source[b, y, x, c] += w * g
                                grad_w += (source[b, y, x, c] - warped[b, row, column, c]) * g
                            grad_x += x_sign * y_weight * grad_w * scale
                            grad_y += y_sign * x_weight * grad_w * scale
                grad_flow[b, y, x, 0] = grad_x
                grad_flow[b, y, x, 1] = grad_y


@jit()
def resize(source, out, first, end):  # type: ignore[no-untyped-def]
    """Write rows ``first`` to ``end`` of ``source`` at the size of ``out``, bilinearly, corners not aligned."""
    batch, height, width, channels = source.shape
    _, out_height, out_width, _ = out.shape
    real = source.dtype.type
    pixel = channels * source.itemsize  # and not what the array says: strides of axes of size 1 are anything
    row = width * pixel
    for b in range(batch):
        for y in range(first, end):
            from_y = max((y + 0.5) * height / out_height - 0.5, 0.0)
            top = int(from_y)
            bottom_weight = real(from_y - top)
            down = row if top + 1 < height else 0
            there = out.ctypes.data + (b * out_height + y) * out_width * pixel
            for x in range(out_width):
                from_x = max((x + 0.5) * width / out_width - 0.5, 0.0)
                left = int(from_x)
                right_weight = real(from_x - left)
                right = pixel if left + 1 < width else 0
                top_right, bottom_left = (1 - bottom_weight) * right_weight, bottom_weight * (1 - right_weight)
                sum_of_four(
                    there + x * pixel,
                    source.ctypes.data + (b * height + top) * row + left * pixel,
                    down,
                    right,
                    channels,
                    (1 - bottom_weight) * (1 - right_weight),
                    top_right,
                    bottom_left,
                    bottom_weight * right_weight,
                )


@jit(fastmath={"contract"}, error_model="numpy")
def blend(warped0, warped1, raw, times, frame, merged, first, end):  # type: ignore[no-untyped-def]
    """Write rows ``first`` to ``end`` of the new frame and of the weighted mean of the warped ones."""
    batch, _, width, channels = frame.shape
    real = frame.dtype.type
    zero, one, two = real(0), real(1), real(2)
    for b in range(batch):
        t = times[b]
        for y in range(first, end):
            for x in range(width):
                weight0, weight1 = raw[b, y, x, channels] * (one - t), raw[b, y, x, channels + 1] * t
                weight = weight0 / (weight0 + weight1)
                for c in range(channels):
                    mean = warped1[b, y, x, c] + weight * (warped0[b, y, x, c] - warped1[b, y, x, c])
                    value = mean + (two * raw[b, y, x, c] - one)
                    value = one if value > one else value  # NaN stays
                    frame[b, y, x, c] = zero if value < zero else value
                    merged[b, y, x, c] = mean


@jit(fastmath=_REORDER)
def cost_volume(features0, features1, costs, first, end):  # type: ignore[no-untyped-def]
    """Write rows ``first`` to ``end`` of the cost volume."""
    batch, height, width, channels = features0.shape
    real = features0.dtype.type
    scale = real(1) / real(channels)
    for b in range(batch):
        for y in range(first, end):
            for x in range(width):
                for dy in range(-RADIUS, RADIUS + 1):
                    row, channel = y + dy, (dy + RADIUS) * SIDE
                    for dx in range(0, SIDE, 3):  # three at a time: a pixel of features0 is read a third as often
                        left = x - RADIUS + dx
                        if row >= 0 and row < height and left >= 0 and left + 2 < width:
                            cost0 = cost1 = cost2 = real(0)
                            for c in range(channels):
                                value = features0[b, y, x, c]
                                cost0 += value * features1[b, row, left, c]
                                cost1 += value * features1[b, row, left + 1, c]
                                cost2 += value * features1[b, row, left + 2, c]
                            costs[b, y, x, channel + dx] = cost0 * scale
                            costs[b, y, x, channel + dx + 1] = cost1 * scale
                            costs[b, y, x, channel + dx + 2] = cost2 * scale
                            continue
                        for i in range(3):
                            cost = real(0)
                            if row >= 0 and row < height and left + i >= 0 and left + i < width:
                                for c in range(channels):
                                    cost += features0[b, y, x, c] * features1[b, row, left + i, c]
                            costs[b, y, x, channel + dx + i] = cost * scale


@jit(fastmath={"contract"})
def cost_volume_backward(grad, features0, features1, grad0, grad1, first, end):  # type: ignore[no-untyped-def]
    """Write the gradients of both frames' features in rows ``first`` to ``end``."""
    batch, height, width, channels = features0.shape
    for b in range(batch):
        for y in range(first, end):
            for x in range(width):
                for c in range(channels):
                    grad0[b, y, x, c] = 0
                    grad1[b, y, x, c] = 0
                for dy in range(-RADIUS, RADIUS + 1):
                    row = y + dy
                    if row < 0 or row >= height:
                        continue
                    for dx in range(-RADIUS, RADIUS + 1):
                        column = x + dx
                        if column < 0 or column >= width:
                            continue
                        # (x, y) of frame 0 met (column, row) of frame 1 at (dx, dy), and (column, row) of frame 0 met
                        # (x, y) of frame 1 at (-dx, -dy).
                        to1 = grad[b, y, x, (dy + RADIUS) * SIDE + dx + RADIUS] / channels
                        to0 = grad[b, row, column, (RADIUS - dy) * SIDE + RADIUS - dx] / channels
                        for c in range(channels):
                            grad0[b, y, x, c] += to1 * features1[b, row, column, c]
                            grad1[b, y, x, c] += to0 * features0[b, row, column, c]


@jit()
def prelu_(tensor, slopes, first, end):  # type: ignore[no-untyped-def]
    """Multiply negative values in rows ``first`` to ``end`` by their channel's slope, in place."""
    batch, _, width, channels = tensor.shape
    for b in range(batch):
        for y in range(first, end):
            for x in range(width):
                for c in range(channels):
                    value = tensor[b, y, x, c]
                    tensor[b, y, x, c] = value if value > 0 else value * slopes[c]


@jit()
def prelu_backward(grad, tensor, slopes, grad_tensor, grad_rows, first, end):  # type: ignore[no-untyped-def]
    """Write the gradient of PReLU's input, and of the slopes, summed up over each row: ``(B, H, C)``."""
    batch, _, width, channels = tensor.shape
    for b in range(batch):
        for y in range(first, end):
            for c in range(channels):
                grad_rows[b, y, c] = 0
            for x in range(width):
                for c in range(channels):
                    value, slope = tensor[b, y, x, c], grad[b, y, x, c]
                    grad_tensor[b, y, x, c] = slope if value > 0 else slope * slopes[c]
                    grad_rows[b, y, c] += 0 if value > 0 else slope * value
