"""The gradient of a convolution's weights by Winograd's algorithm, in machine code for this processor.

A 3 x 3 convolution makes 4 x 4 outputs of a tile as ``A' ((G w G') * (B' d B)) A`` [1], so the gradient of its weights
is ``G' (sum over tiles of (B' d B) (A g A')) G``: of each tile, 6 x 6 products of pixels ``d`` and gradients ``g``, a
matrix ``(inputs, outputs)`` each, instead of 144.

Convention:
    That of `uprnet.engines.kernels`: tensors are ``(B, H, W, C)``, described by rows of a table.

Reference:
    [1] Lavin and Gray, "Fast Algorithms for Convolutional Neural Networks", CVPR 2016.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from llvmlite import ir
from numba.core import cgutils

from uprnet.engines.kernels import ADDRESS, CHANNELS, ITEM, PIXEL, ROW, gather_row, spread_tile
from uprnet.network.ops.jit import jit
from uprnet.network.ops.vectors import LANES, NUMBER, VECTOR, Code, clear, instruction

#: Pixels of a tile in Winograd's domain, and those that `spread_tile` may have to gather.
POINTS = 36

#: Rows of the block of sums that a product keeps in registers, for 1, 2, 3 and 4 vectors a row; each divides `LANES`.
SUM_ROWS = (8, 4, 4, 2) if LANES == 8 else (4, 4, 4, 4) if LANES == 4 else (16, 8, 8, 4)

#: Numbers that are added up at a time: few enough for the nearest cache.
SUM_LENGTH = 512


def _spread_gradient(code: Code, g: list[Any]) -> list[Any]:
    """Take the gradients of a tile's row or column of four outputs to those of the six products."""
    a, b = code.plus(g[0], g[2]), code.plus(g[1], g[3])
    c, d = code.scaled(g[2], 4, g[0]), code.scaled(g[3], 4, g[1])
    return [g[0], code.plus(a, b), code.minus(a, b), code.scaled(d, 2, c), code.scaled(d, -2, c), g[3]]


@instruction
def transform_gradient(code: Code, patch: Any, row: Any, pixel: Any, target: Any, step: Any) -> None:
    """Transform the gradients of 4 x 4 outputs to those of 6 x 6 products, ``step`` bytes apart."""
    parts = []
    for x in range(4):
        start = code.at(patch, code.times(pixel, x))
        parts.append(_spread_gradient(code, [code.load(code.at(start, code.times(row, y))) for y in range(4)]))
    for y in range(6):
        for x, value in enumerate(_spread_gradient(code, [part[y] for part in parts])):
            code.store(value, code.at(target, code.times(step, 6 * y + x)))


def _outer_product(vectors: int) -> Any:
    """Make the sum of outer products: of some numbers of each row of ``a`` and ``vectors`` vectors of that of ``b``."""

    def add_products(
        code: Code, length: Any, a: Any, a_row: Any, b: Any, b_row: Any, target: Any, target_row: Any
    ) -> None:
        builder = code.builder
        rows = SUM_ROWS[vectors - 1]
        places = [[code.at(target, code.times(target_row, i), VECTOR * j) for j in range(vectors)] for i in range(rows)]
        sums = [[code.register(code.load(place)) for place in line] for line in places]
        with cgutils.for_range(builder, length) as loop:
            line = code.at(b, builder.mul(loop.index, b_row))
            factors = [code.load(code.at(line, VECTOR * j)) for j in range(vectors)]
            number = code.at(a, builder.mul(loop.index, a_row))
            for i in range(rows):
                spread = code.spread(code.load(code.at(number, NUMBER * i), ir.FloatType()))
                for register, factor in zip(sums[i], factors, strict=True):
                    builder.store(code.multiply_add(spread, factor, builder.load(register)), register)
        for line, registers in zip(places, sums, strict=True):
            for place, register in zip(line, registers, strict=True):
                code.store(builder.load(register), place)

    add_products.__name__ = f"add_products_{vectors}"
    return instruction(add_products)


add_products_1, add_products_2 = _outer_product(1), _outer_product(2)
add_products_3, add_products_4 = _outer_product(3), _outer_product(4)


@jit()
def _add_products(count, a, a_row, rows, panels, b, b_row, sums, sums_row):  # type: ignore[no-untyped-def]
    """Add the products of ``count`` rows of ``a``, transposed, with those of ``b``; ``rows`` numbers of ``a`` each."""
    for i in range(panels.shape[0]):
        vectors = panels[i]
        for m in range(0, rows, SUM_ROWS[vectors - 1]):
            place, number = sums + m * sums_row, a + m * NUMBER
            if vectors == 4:
                add_products_4(count, number, a_row, b, b_row, place, sums_row)
            elif vectors == 3:
                add_products_3(count, number, a_row, b, b_row, place, sums_row)
            elif vectors == 2:
                add_products_2(count, number, a_row, b, b_row, place, sums_row)
            else:
                add_products_1(count, number, a_row, b, b_row, place, sums_row)
        b += vectors * VECTOR
        sums += vectors * VECTOR


@jit()
def _spread_gradient_tile(table, item, top, left, height, width, patch, target, step):  # type: ignore[no-untyped-def]
    """Transform the gradients of a tile's 4 x 4 outputs; those outside the picture count as zero."""
    vectors = (table[0, CHANNELS] + LANES - 1) // LANES
    row, pixel = table[0, ROW], table[0, PIXEL]
    source = table[0, ADDRESS] + item * table[0, ITEM] + top * row + left * pixel
    if top + 4 > height - 1 or left + 4 > width:  # a vector may be read beyond its pixel, but not beyond the picture
        source, row, pixel = patch, 4 * vectors * VECTOR, vectors * VECTOR
        for r in range(4):
            gather_row(table, item, top + r, left, 4, height, width, patch + r * row, pixel)
    for v in range(vectors):
        transform_gradient(source + v * VECTOR, row, pixel, target + v * VECTOR, step)


@jit()
def add_weight_gradient(source, gradient, height, width, panels, chunk, first, end, scratch, sums):  # type: ignore[no-untyped-def]
    """Add the gradient of a 3 x 3 convolution's weights, in Winograd's domain, of some rows of tiles.

    Rows ``first`` to ``end - 1`` are counted through all items. ``sums`` is ``(36, inputs, outputs)``, both rounded up
    to whole vectors; ``scratch`` has room for ``POINTS + POINTS * chunk`` pixels of both tensors, and 72 vectors.
    """
    pixel_in = (source[0, CHANNELS] + LANES - 1) // LANES * VECTOR
    pixel_out = (gradient[0, CHANNELS] + LANES - 1) // LANES * VECTOR
    across, down = (width + 3) // 4, (height + 3) // 4
    # Not powers of two: they would share a few lines of the cache.
    step_in, step_out = chunk * pixel_in + VECTOR, chunk * pixel_out + VECTOR
    patch = scratch
    spread_in = patch + POINTS * (pixel_in + pixel_out)
    spread_out = spread_in + POINTS * step_in
    clear(patch, POINTS * (pixel_in + pixel_out) // NUMBER)
    for start in range(first * across, end * across, chunk):
        count = min(chunk, end * across - start)
        for i in range(count):
            row = (start + i) // across
            item, top, left = row // down, 4 * (row % down), 4 * ((start + i) % across)
            target = spread_in + i * pixel_in
            channels = source[0, CHANNELS]
            spread_tile(source, item, top, left, height, height, width, channels, 1, patch, target, step_in)
            target = spread_out + i * pixel_out
            _spread_gradient_tile(gradient, item, top, left, height, width, patch, target, step_out)
        for k in range(POINTS):
            place = sums + k * (pixel_in // NUMBER) * pixel_out
            _add_products(
                count,
                spread_in + k * step_in,
                pixel_in,
                pixel_in // NUMBER,
                panels,
                spread_out + k * step_out,
                pixel_out,
                place,
                pixel_out,
            )


@jit()
def add_up_taps(sums, matrix, taps):  # type: ignore[no-untyped-def]
    """Add up the parts of ``sums``, ``(parts, 36, n)``, and take the result to the taps, ``(9, n)``.

    ``matrix`` is ``(36, 9)``. A library's product of matrices would add in an order that depends on its threads.
    """
    parts, points, length = sums.shape
    total = np.empty(SUM_LENGTH, np.float32)
    taps[:] = 0
    for first in range(0, length, SUM_LENGTH):
        end = min(first + SUM_LENGTH, length)
        for point in range(points):
            whole = total[: end - first]
            whole[:] = sums[0, point, first:end]
            for part in range(1, parts):
                _add(whole, 1, sums[part, point, first:end])
            for tap in range(matrix.shape[1]):
                if matrix[point, tap] != 0:
                    _add(taps[tap, first:end], matrix[point, tap], whole)


@jit()
def _add(target, factor, values):  # type: ignore[no-untyped-def]
    """Add some values times a factor."""
    for i in range(len(target)):
        target[i] += factor * values[i]
