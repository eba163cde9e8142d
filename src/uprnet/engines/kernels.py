"""Convolutions in machine code for this processor: Winograd's algorithm, and the plain one.

A convolution with 3 x 3 taps and stride 1 needs 36 products of pixels and weights for 4 x 4 outputs of a channel,
instead of 144: 6 x 6 pixels are transformed, multiplied, and transformed back [1]. Everything of a chunk of tiles
stays in the cache of the core that works on it: the pixels are gathered from all inputs (which replaces
concatenation), and bias and activation are applied before the outputs are written.

Convention:
    Tensors are ``(B, H, W, C)``; numbers of a pixel lie side by side, pixels and rows any distance apart.

Reference:
    [1] Lavin and Gray, "Fast Algorithms for Convolutional Neural Networks", CVPR 2016.
"""

from __future__ import annotations

import numpy as np

from uprnet.engines.winograd import (
    ROWS_1,
    ROWS_2,
    ROWS_3,
    ROWS_4,
    finish,
    multiply_1,
    multiply_2,
    multiply_3,
    multiply_4,
    tile_5,
    tile_6,
    transform_4_4,
    transform_4_5,
    transform_5_4,
    transform_5_5,
    transform_6,
)
from uprnet.network.ops.jit import jit
from uprnet.network.ops.vectors import LANES, NUMBER, VECTOR, clear, copy, copy_pixels

#: Columns of a table of tensors: address, bytes from item to item, row to row and pixel to pixel, channels.
ADDRESS, ITEM, ROW, PIXEL, CHANNELS = range(5)

#: Columns of a table of layers. ``GROUPS`` is 4 where the outputs of a pixel become 2 x 2 pixels, else 1. Rows from
#: ``FIRST_INPUT`` to ``END_INPUT`` of the table of inputs are what the layer reads; so with its panels. ``IS_JOINED``
#: says that the inputs of the first layer are put side by side before they are read: they have few channels each.
#: ``UNIT`` is the number of output rows of a tile; ``LINK`` and ``SEAM`` are where a layer's output begins among the
#: links and in a seam, in bytes.
(
    IS_WINOGRAD,
    HEIGHT,
    WIDTH,
    INPUTS,
    OUTPUTS,
    GROUPS,
    TAPS,
    STRIDE,
    CHUNK,
    WEIGHTS,
    BIAS,
    SLOPES,
    FIRST_INPUT,
    END_INPUT,
    FIRST_PANEL,
    END_PANEL,
    IS_JOINED,
    UNIT,
    LINK,
    SEAM,
) = range(20)
LAYER_COLUMNS = 20


@jit()
def gather_row(inputs, item, y, left, count, height, width, target, pitch):  # type: ignore[no-untyped-def]
    """Write the channels of all inputs side by side, for ``count`` pixels of a row; zeros outside the picture."""
    first, end = min(max(-left, 0), count), max(min(width - left, count), 0)
    if y < 0 or y >= height or end <= first:
        clear(target, count * (pitch // NUMBER))
        return
    clear(target, first * (pitch // NUMBER))
    clear(target + end * pitch, (count - end) * (pitch // NUMBER))
    target += first * pitch
    for i in range(inputs.shape[0]):
        step, channels = inputs[i, PIXEL], inputs[i, CHANNELS]
        source = inputs[i, ADDRESS] + item * inputs[i, ITEM] + y * inputs[i, ROW] + (left + first) * step
        if step == pitch and channels * NUMBER == pitch:
            copy(target, source, (end - first) * channels)
        else:
            copy_pixels(target, pitch, source, step, end - first, channels)
        target += channels * NUMBER


@jit()
def _multiply(runs, run, length, a, a_row, rows, panels, b, target, row):  # type: ignore[no-untyped-def]
    """Multiply ``rows`` rows of ``a`` with all panels of ``b``; up to a block's rows more are written."""
    for i in range(panels.shape[0]):
        vectors = panels[i]
        if vectors == 4:
            for m in range(0, rows, ROWS_4):
                multiply_4(runs, run, length, a + m * a_row, a_row, b, target + m * row, row)
        elif vectors == 3:
            for m in range(0, rows, ROWS_3):
                multiply_3(runs, run, length, a + m * a_row, a_row, b, target + m * row, row)
        elif vectors == 2:
            for m in range(0, rows, ROWS_2):
                multiply_2(runs, run, length, a + m * a_row, a_row, b, target + m * row, row)
        else:
            for m in range(0, rows, ROWS_1):
                multiply_1(runs, run, length, a + m * a_row, a_row, b, target + m * row, row)
        b += runs * length * vectors * VECTOR
        target += vectors * VECTOR


@jit()
def _spread(stride, phase, source, row, pixel, target, step):  # type: ignore[no-untyped-def]
    """Transform a vector of the pixels of a tile; with stride 2 of those in rows and columns of one parity."""
    if stride == 1:
        transform_6(source, row, pixel, target, step)
        return
    source += (phase // 2) * row + (phase % 2) * pixel
    if phase == 0:
        transform_5_5(source, 2 * row, 2 * pixel, target, step)
    elif phase == 1:
        transform_5_4(source, 2 * row, 2 * pixel, target, step)
    elif phase == 2:
        transform_4_5(source, 2 * row, 2 * pixel, target, step)
    else:
        transform_4_4(source, 2 * row, 2 * pixel, target, step)


@jit()
def spread_tile(inputs, item, top, left, limit, height, width, channels, stride, patch, target, step):  # type: ignore[no-untyped-def]
    """Transform the pixels of all inputs for a tile whose first output is at ``(top, left)``.

    With stride 1 that are 6 x 6 pixels. With stride 2 they are 9 x 9, in four phases: the convolution is a sum of four
    convolutions of every other row and column, with 2 x 2, 2 x 1, 1 x 2 and 1 x 1 taps. Rows from ``limit`` on are not
    read but count as zero: they would reach outputs that nobody wants, and by rounding the others.
    """
    vectors = (channels + LANES - 1) // LANES
    phases, side = (1, 6) if stride == 1 else (4, 9)
    top, left = stride * top - 1, stride * left - 1
    if top >= 0 and left >= 0 and top + side <= min(limit, height - 1) and left + side <= width:
        # Straight from the inputs. The last vector of an input may hold numbers of the next pixel, too; they are
        # written where the next numbers go, or where nobody reads.
        for phase in range(phases):
            place = target + phase * vectors * VECTOR
            for i in range(inputs.shape[0]):
                row, pixel, count = inputs[i, ROW], inputs[i, PIXEL], inputs[i, CHANNELS]
                source = inputs[i, ADDRESS] + item * inputs[i, ITEM] + top * row + left * pixel
                for v in range(0, count, LANES):
                    _spread(stride, phase, source + v * NUMBER, row, pixel, place + v * NUMBER, step)
                place += count * NUMBER
        return
    pixel = vectors * VECTOR
    for r in range(side):
        gather_row(inputs, item, top + r, left, side, limit, width, patch + side * r * pixel, pixel)
    for phase in range(phases):
        for v in range(vectors):
            place = target + (phase * vectors + v) * VECTOR
            _spread(stride, phase, patch + v * VECTOR, side * pixel, pixel, place, step)


@jit()
def _write_tile(output, item, top, left, end, width, channels, groups, points, products, step, bias, slopes, pixels):  # type: ignore[no-untyped-def]
    """Transform the products of a tile back and write its 4 x 4 outputs above row ``end``, or 2 x 2 pixels for each."""
    vectors = (channels + LANES - 1) // LANES
    scale = 2 if groups == 4 else 1
    row, pixel = scale * output[ROW], scale * output[PIXEL]
    corner = output[ADDRESS] + item * output[ITEM] + top * row + left * pixel
    is_inside = top + 4 <= end and left + 4 <= width
    # Where pixels follow in the same row, the end of a vector may spill over them: they are written later.
    may_spill = groups == 1 and (width - left - 4) * channels >= LANES
    for group in range(groups):
        target = corner + (group // 2) * output[ROW] + (group % 2) * output[PIXEL]
        for v in range(vectors - 1, -1, -1):  # the last vector first, because it spills over the others
            at = (group * vectors + v) * VECTOR
            count = channels - v * LANES
            is_direct = is_inside and (count >= LANES or may_spill)
            place, place_row, place_pixel = pixels, 4 * VECTOR, VECTOR
            if is_direct:
                place, place_row, place_pixel = target + v * VECTOR, row, pixel
            if points == 6:
                tile_6(products + at, step, bias + at, slopes + at, place, place_row, place_pixel)
            else:
                tile_5(products + at, step, bias + at, slopes + at, place, place_row, place_pixel)
            if is_direct:
                continue
            for r in range(min(4, end - top)):
                for q in range(min(4, width - left)):
                    place = target + v * VECTOR + r * row + q * pixel
                    copy(place, pixels + (4 * r + q) * VECTOR, min(LANES, count))


@jit()
def _winograd(layer, inputs, panels, output, channels_out, scratch, item, first, end):  # type: ignore[no-untyped-def]
    """Convolve with 3 x 3 taps: output rows ``first`` to ``end - 1`` of one item (input rows, where pixels double)."""
    height, width, channels, groups = layer[HEIGHT], layer[WIDTH], layer[INPUTS], layer[GROUPS]
    stride, chunk = layer[STRIDE], layer[CHUNK]
    out_width, limit = (width - 1) // stride + 1, min(height, stride * (end - 1) + 2)
    across, down = (out_width + 3) // 4, (end - first + 3) // 4
    points, phases, patch_pixels = (6, 1, 36) if stride == 1 else (5, 4, 81)
    phase_pixel = (channels + LANES - 1) // LANES * VECTOR
    pixel = phases * phase_pixel
    group_pixel = (channels_out + LANES - 1) // LANES * VECTOR
    out_pixel = groups * group_pixel
    # Not powers of two: the products would share a few lines of the cache.
    spread_step, product_step = chunk * pixel + VECTOR, chunk * out_pixel + VECTOR
    pixels = scratch
    patch = pixels + 16 * VECTOR
    spread = patch + patch_pixels * phase_pixel
    products = spread + points * points * spread_step
    if groups == 4:
        clear(products, points * points * product_step // NUMBER)
    for start in range(0, across * down, chunk):
        count = min(chunk, across * down - start)
        for i in range(count):
            top, left = first + 4 * ((start + i) // across), 4 * ((start + i) % across)
            target = spread + i * pixel
            spread_tile(inputs, item, top, left, limit, height, width, channels, stride, patch, target, spread_step)
        weights = layer[WEIGHTS]
        for k in range(points * points):
            runs, run = 1, phase_pixel
            if stride == 2:
                # Phases of even rows have one tap down, so that the product at infinity is zero; so with columns.
                runs = (1 if k // points == 4 else 2) * (1 if k % points == 4 else 2)
                run = phase_pixel * (2 if k // points < 4 and k % points == 4 else 1)
            for group in range(groups):
                # A transposed convolution has 2 x 2 taps for each of the 2 x 2 outputs: of the 6 x 6 products the last
                # row or the first is zero, and so with the columns.
                if groups == 4 and (k // 6 == (0 if group // 2 else 5) or k % 6 == (0 if group % 2 else 5)):
                    continue
                source, target = spread + k * spread_step, products + k * product_step + group * group_pixel
                _multiply(runs, run, channels, source, pixel, count, panels, weights, target, out_pixel)
                weights += runs * channels * group_pixel
        for i in range(count):
            top, left = first + 4 * ((start + i) // across), 4 * ((start + i) % across)
            _write_tile(
                output,
                item,
                top,
                left,
                end,
                out_width,
                channels_out,
                groups,
                points,
                products + i * out_pixel,
                product_step,
                layer[BIAS],
                layer[SLOPES],
                pixels,
            )


@jit()
def _plain(layer, inputs, panels, output, channels_out, scratch, item, first, end):  # type: ignore[no-untyped-def]
    """Convolve with any number of taps and any stride: output rows ``first`` to ``end - 1`` of one item."""
    height, width, taps, stride, chunk = layer[HEIGHT], layer[WIDTH], layer[TAPS], layer[STRIDE], layer[CHUNK]
    padding, out_width = taps // 2, (width - 1) // stride + 1
    out_vectors = (channels_out + LANES - 1) // LANES
    pixel, out_pixel = layer[INPUTS] * NUMBER, out_vectors * VECTOR
    row = ((chunk - 1) * stride + taps) * pixel
    rest = scratch
    sums = rest + VECTOR
    rows = sums + chunk * out_pixel
    for out_y in range(first, end):
        for start in range(0, out_width, chunk):
            count = min(chunk, out_width - start)
            across = (count - 1) * stride + taps
            for r in range(taps):
                y, left = out_y * stride + r - padding, start * stride - padding
                gather_row(inputs, item, y, left, across, height, width, rows + r * row, pixel)
            length, weights = taps * layer[INPUTS], layer[WEIGHTS]
            _multiply(taps, row, length, rows, stride * pixel, count, panels, weights, sums, out_pixel)
            for i in range(count):
                target = output[ADDRESS] + item * output[ITEM] + out_y * output[ROW] + (start + i) * output[PIXEL]
                for v in range(out_vectors):
                    at = v * VECTOR
                    left_over = channels_out - v * LANES
                    place = target + at if left_over >= LANES else rest
                    finish(sums + i * out_pixel + at, layer[BIAS] + at, layer[SLOPES] + at, place)
                    if left_over < LANES:
                        copy(target + at, rest, left_over)


@jit()
def _join(inputs, layer, item, first, end, joined):  # type: ignore[no-untyped-def]
    """Write all inputs side by side for rows ``first`` to ``end - 1``, a whole number of vectors a pixel."""
    pixel = (layer[INPUTS] + LANES - 1) // LANES * VECTOR
    row = layer[WIDTH] * pixel
    for y in range(first, end):
        target = joined + (y - first) * row
        clear(target, row // NUMBER)
        for i in range(inputs.shape[0]):
            source = inputs[i, ADDRESS] + item * inputs[i, ITEM] + y * inputs[i, ROW]
            copy_pixels(target, pixel, source, inputs[i, PIXEL], layer[WIDTH], inputs[i, CHANNELS])
            target += inputs[i, CHANNELS] * NUMBER
    table = np.zeros((1, 5), np.int64)
    table[0, PIXEL], table[0, ROW], table[0, CHANNELS] = pixel, row, layer[INPUTS]
    table[0, ADDRESS] = joined - first * row
    return table


@jit()
def convolve(layers, inputs, panels, output, scratch, links, joined, item, held, done, ends, seam, first, end, step):  # type: ignore[no-untyped-def]
    """Run a chain of layers for rows ``first`` to ``end - 1`` of the last one's output, ``step`` rows at a time.

    A layer makes just the rows that the layers after it need next, in whole tiles counted from the top of the picture,
    to its own memory behind ``links``, where the few that will be needed once more stay. So no row is made twice, what
    passes from layer to layer is small enough for the cache, and a result does not depend on how rows are shared out.
    ``first`` and ``step`` are whole tiles of every layer. An input with address 0 is the output of the layer before.

    Of each layer rows ``held`` to ``done - 1`` are in memory; both are brought up to date, so that another call goes
    on. Rows from ``ends`` on, of all layers but the last, are not made but taken out of ``seam``, where `save_seam` put
    them.
    """
    count = layers.shape[0]
    goal = np.empty(count, np.int64)
    for bottom in range(first + step, end + step, step):
        goal[count - 1] = min(bottom, end)
        for j in range(count - 2, -1, -1):
            needed = min(goal[j + 1], ends[j + 1]) + layers[j + 1, TAPS] // 2
            whole = (needed + layers[j, UNIT] - 1) // layers[j, UNIT] * layers[j, UNIT]
            goal[j] = min(whole if needed <= ends[j] else needed, layers[j + 1, HEIGHT])
        before = np.zeros(5, np.int64)
        for j in range(count):
            layer = layers[j]
            channels_out = layer[OUTPUTS]
            here = output
            if j < count - 1:
                # Whole vectors: what is more than the channels is never read.
                channels_out = (channels_out + LANES - 1) // LANES * LANES
                here = np.zeros(5, np.int64)
                here[PIXEL] = channels_out * NUMBER
                here[ROW] = here[PIXEL] * layers[j + 1, WIDTH]
                kept = min(max(done[j + 1] - layers[j + 1, TAPS] // 2, held[j]), done[j])
                place = links + layer[LINK]
                copy(place, place + (kept - held[j]) * here[ROW], (done[j] - kept) * here[ROW] // NUMBER)
                held[j] = kept
                here[ADDRESS] = place - kept * here[ROW]
            own = min(goal[j], ends[j])
            if own > done[j]:
                table = inputs[layer[FIRST_INPUT] : layer[END_INPUT]].copy()
                for i in range(table.shape[0]):
                    if table[i, ADDRESS] == 0:
                        table[i, :CHANNELS] = before[:CHANNELS]
                if layer[IS_JOINED]:
                    padding = layer[TAPS] // 2
                    top, under = max(done[j] - padding, 0), min(own + padding, layer[HEIGHT])
                    table = _join(table, layer, item, top, under, joined)
                scale = 2 if layer[GROUPS] == 4 else 1
                some = panels[layer[FIRST_PANEL] : layer[END_PANEL]]
                top, under = done[j] // scale, own // scale
                if layer[IS_WINOGRAD]:
                    _winograd(layer, table, some, here, channels_out, scratch, item, top, under)
                else:
                    _plain(layer, table, some, here, channels_out, scratch, item, top, under)
                done[j] = own
            if goal[j] > done[j]:
                source = seam + layer[SEAM] + (done[j] - ends[j]) * here[ROW]
                copy(here[ADDRESS] + done[j] * here[ROW], source, (goal[j] - done[j]) * here[ROW] // NUMBER)
                done[j] = goal[j]
            before = here


@jit()
def save_seam(layers, links, starts, seam):  # type: ignore[no-untyped-def]
    """Save the first rows of each layer but the last, which the share above needs, after the first step of a share."""
    for j in range(layers.shape[0] - 1):
        below = layers[j + 1]
        row = (layers[j, OUTPUTS] + LANES - 1) // LANES * VECTOR * below[WIDTH]
        end = min(starts[j + 1] + below[TAPS] // 2, below[HEIGHT])
        copy(seam + layers[j, SEAM], links + layers[j, LINK], (end - starts[j]) * row // NUMBER)
