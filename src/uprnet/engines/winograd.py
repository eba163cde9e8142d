"""Pieces of machine code for convolutions: Winograd's transforms, there and back, and matrix products.

A compiler's automatic vectorisation reaches a third of the processor in a matrix product, because it does not keep a
block of sums in registers. On a core of a Zen 5 the product below runs at 250 GFLOP/s, which is the processor's limit.

Convention:
    As in `uprnet.network.ops.vectors`: arguments are addresses and steps in bytes, and nothing is checked.
"""

from __future__ import annotations

from typing import Any

from llvmlite import ir
from numba.core import cgutils

from uprnet.network.ops.vectors import LANES, NUMBER, VECTOR, Code, instruction

#: Rows of the block of sums that a product keeps in registers, for 1, 2, 3 and 4 vectors a row: as many as leave room
#: for the operands in the 32 registers of AVX-512 and NEON, or the 16 of AVX.
ROWS_1, ROWS_2, ROWS_3, ROWS_4 = (12, 6, 4, 3) if LANES == 8 else (24, 12, 8, 6)

#: A multiple of all of them: memory for the rows of a matrix is a multiple of so many.
ROW_MULTIPLE = 24


@instruction
def finish(code: Code, sums: Any, bias: Any, slopes: Any, target: Any) -> None:
    """Add the bias to a vector of sums, rectify, and store."""
    value = code.plus(code.load(sums), code.load(bias))
    code.store(code.rectified(value, code.load(slopes)), target)


def _spread(code: Code, x: list[Any]) -> list[Any]:
    """Transform the pixels of a row or column of a tile for Winograd's product.

    Six pixels are for three taps, at the points 0, 1, -1, 2, -2 and infinity; five are for two taps, at 0, 1, -1, 2 and
    infinity; four for one tap, which needs no infinity.
    """
    if len(x) == 6:
        p, q = code.scaled(x[2], -4, x[4]), code.scaled(x[1], -4, x[3])
        r, s = code.minus(x[4], x[2]), code.minus(x[3], x[1])
        return [
            code.scaled(x[0], 4, code.scaled(x[2], -5, x[4])),
            code.plus(p, q),
            code.minus(p, q),
            code.scaled(s, 2, r),
            code.scaled(s, -2, r),
            code.scaled(x[1], 4, code.scaled(x[3], -5, x[5])),
        ]
    a = code.minus(x[3], x[1])
    b = code.minus(x[3], x[2])
    products = [
        code.scaled(code.minus(x[0], x[2]), 2, a),
        code.scaled(x[1], -2, b),
        code.scaled(code.minus(x[1], x[2]), 2, b),
        a,
    ]
    return products if len(x) == 4 else [*products, code.scaled(a, -2, code.minus(x[4], x[2]))]


def _gather(code: Code, m: list[Any]) -> list[Any]:
    """Turn the products of six or five points into four outputs."""
    a, b = code.plus(m[1], m[2]), code.minus(m[1], m[2])
    if len(m) == 6:
        c, d = code.plus(m[3], m[4]), code.minus(m[3], m[4])
    else:
        c = d = m[3]
    return [
        code.plus(m[0], code.plus(a, c)),
        code.scaled(d, 2, b),
        code.scaled(c, 4, a),
        code.plus(code.scaled(d, 8, b), m[-1]),
    ]


def _patch_transform(rows: int, columns: int) -> Any:
    """Make the transform of ``rows`` x ``columns`` pixels, ``row`` and ``pixel`` bytes apart.

    What comes out goes to places ``step`` bytes apart: in 6 rows of 6 for 6 x 6 pixels, else in 5 rows of 5.
    """
    across = max(rows, columns, 5)

    def transform(code: Code, patch: Any, row: Any, pixel: Any, target: Any, step: Any) -> None:
        parts = []
        for x in range(columns):
            start = code.at(patch, code.times(pixel, x))
            parts.append(_spread(code, [code.load(code.at(start, code.times(row, y))) for y in range(rows)]))
        for y in range(rows):
            for x, value in enumerate(_spread(code, [part[y] for part in parts])):
                code.store(value, code.at(target, code.times(step, across * y + x)))

    transform.__name__ = f"transform_{rows}_{columns}"
    return instruction(transform)


def _tile_transform(points: int) -> Any:
    """Make the transform of ``points`` x ``points`` products to 4 x 4 outputs, with bias and activation."""

    def tile(code: Code, products: Any, step: Any, bias: Any, slopes: Any, target: Any, row: Any, pixel: Any) -> None:
        parts = []
        for x in range(points):
            places = [code.at(products, code.times(step, points * y + x)) for y in range(points)]
            parts.append(_gather(code, [code.load(place) for place in places]))
        added, factors = code.load(bias), code.load(slopes)
        for y in range(4):
            for x, value in enumerate(_gather(code, [part[y] for part in parts])):
                place = code.at(target, code.times(row, y), code.times(pixel, x))
                code.store(code.rectified(code.plus(value, added), factors), place)

    tile.__name__ = f"tile_{points}"
    return instruction(tile)


def _product(vectors: int, rows: int) -> Any:
    """Make the product of ``rows`` rows of ``a`` with a panel of ``b`` that is ``vectors`` vectors wide.

    A row of ``a`` consists of ``runs`` pieces of ``length`` numbers, ``run`` bytes apart.
    """

    def multiply(
        code: Code, runs: Any, run: Any, length: Any, a: Any, a_row: Any, b: Any, target: Any, row: Any
    ) -> None:
        builder = code.builder
        sums = [[code.register(code.constant(0)) for _ in range(vectors)] for _ in range(rows)]
        with cgutils.for_range(builder, runs) as outer:
            start = code.at(a, builder.mul(outer.index, run))
            panel = code.at(b, builder.mul(outer.index, code.times(length, vectors * VECTOR)))
            with cgutils.for_range(builder, length) as inner:
                line = code.at(panel, code.times(inner.index, vectors * VECTOR))
                factors = [code.load(code.at(line, VECTOR * j)) for j in range(vectors)]
                number = code.at(start, code.times(inner.index, NUMBER))
                for i in range(rows):
                    spread = code.spread(code.load(code.at(number, code.times(a_row, i)), ir.FloatType()))
                    for place, factor in zip(sums[i], factors, strict=True):
                        builder.store(code.multiply_add(spread, factor, builder.load(place)), place)
        for i in range(rows):
            for j, place in enumerate(sums[i]):
                code.store(builder.load(place), code.at(target, code.times(row, i), VECTOR * j))

    multiply.__name__ = f"multiply_{vectors}"
    return instruction(multiply)


multiply_1, multiply_2 = _product(1, ROWS_1), _product(2, ROWS_2)
multiply_3, multiply_4 = _product(3, ROWS_3), _product(4, ROWS_4)
transform_6 = _patch_transform(6, 6)
transform_5_5, transform_5_4 = _patch_transform(5, 5), _patch_transform(5, 4)
transform_4_5, transform_4_4 = _patch_transform(4, 5), _patch_transform(4, 4)
tile_6, tile_5 = _tile_transform(6), _tile_transform(5)
