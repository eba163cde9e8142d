"""Pieces of machine code for compiled kernels: vectors of the processor's own width, at raw addresses.

A compiler's automatic vectorisation leaves much of the processor unused. Here the instructions are said outright, and
numba compiles them for the processor that it finds.

Convention:
    Arguments are integers: addresses and steps in bytes, counts in numbers. Numbers are float32 where nothing else is
    said. Nothing is checked: callers pass memory that is there.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from llvmlite import binding, ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic


def _lanes() -> int:
    """Return how many float32 numbers a register of this processor holds."""
    features = binding.get_host_cpu_features()
    if features.get("avx512f"):
        return 16
    return 8 if features.get("avx") else 4


#: Numbers in a vector.
LANES = _lanes()

#: Bytes of a number, and of a vector.
NUMBER = 4
VECTOR = NUMBER * LANES

_INT = ir.IntType(64)
_FLOAT = ir.FloatType()
_VECTOR = ir.VectorType(_FLOAT, LANES)


class Code:
    """Emits instructions; what its methods take and return are values of LLVM, and Python's integers."""

    def __init__(self, builder: Any) -> None:
        self.builder = builder

    def plus(self, a: Any, b: Any) -> Any:
        """Return ``a + b``."""
        return self.builder.fadd(a, b)

    def minus(self, a: Any, b: Any) -> Any:
        """Return ``a - b``."""
        return self.builder.fsub(a, b)

    def scaled(self, a: Any, factor: float, b: Any) -> Any:
        """Return ``a * factor + b``."""
        return self.multiply_add(a, self.constant(factor), b)

    def multiply_add(self, a: Any, b: Any, c: Any) -> Any:
        """Return ``a * b + c``: one instruction, rounded once, where the processor has it."""
        product = self.builder.fmul(a, b, flags=("contract",))
        return self.builder.fadd(product, c, flags=("contract",))

    def rectified(self, a: Any, slopes: Any) -> Any:
        """Return ``a`` where it is positive, ``a * slopes`` elsewhere."""
        is_positive = self.builder.fcmp_ordered(">", a, self.constant(0))
        return self.builder.select(is_positive, a, self.builder.fmul(a, slopes))

    def integer(self, number: int) -> Any:
        """Return a 64-bit integer."""
        return ir.Constant(_INT, number)

    def constant(self, number: float) -> Any:
        """Return a vector that holds ``number`` in every lane, known beforehand."""
        return ir.Constant(_VECTOR, [number] * LANES)

    def spread(self, number: Any, kind: Any = _VECTOR) -> Any:
        """Return a vector that holds ``number`` in every lane; where ``kind`` is no vector, the number."""
        if not isinstance(kind, ir.VectorType):
            return number
        undefined = ir.Constant(kind, ir.Undefined)
        first = self.builder.insert_element(undefined, number, ir.Constant(ir.IntType(32), 0))
        zeros = ir.Constant(ir.VectorType(ir.IntType(32), kind.count), [0] * kind.count)
        return self.builder.shuffle_vector(first, undefined, zeros)

    def at(self, address: Any, *offsets: Any) -> Any:
        """Return the address some bytes further."""
        for offset in offsets:
            address = self.builder.add(address, self.integer(offset) if isinstance(offset, int) else offset)
        return address

    def times(self, number: Any, factor: int) -> Any:
        """Return an integer times a factor."""
        return self.builder.mul(number, self.integer(factor))

    def load(self, address: Any, kind: Any = _VECTOR) -> Any:
        """Read a vector, or a number, at any address."""
        value = self.builder.load(self.builder.inttoptr(address, kind.as_pointer()))
        value.align = NUMBER
        return value

    def store(self, value: Any, address: Any) -> None:
        """Write a vector, or a number, to any address."""
        stored = self.builder.store(value, self.builder.inttoptr(address, value.type.as_pointer()))
        stored.align = NUMBER

    def register(self, value: Any) -> Any:
        """Return a place that holds ``value``, to be loaded and stored: LLVM keeps it in a register."""
        place = cgutils.alloca_once(self.builder, value.type)  # type: ignore[no-untyped-call]
        self.builder.store(value, place)
        return place

    def parts(self, count: Any, number: Any = _FLOAT) -> Iterator[tuple[Any, Any]]:
        """Yield type and offset: in a loop over whole vectors, in one over fours, and in one over what remains."""
        size = NUMBER if number is _FLOAT else 2 * NUMBER
        first = self.integer(0)
        for lanes in sorted({VECTOR // size, 4, 1}, reverse=True):
            end = self.builder.and_(count, self.integer(-lanes))
            with cgutils.for_range_slice(self.builder, first, end, self.integer(lanes)) as (index, _):
                yield number if lanes == 1 else ir.VectorType(number, lanes), self.times(index, size)
            first = end


def instruction(emit: Callable[..., None]) -> Any:
    """Make a function for compiled code out of ``emit(code, *arguments)``, which emits what it does.

    It stays a function: put in line wherever it is called, the code would take several times as long to compile.
    """
    parameters = list(inspect.signature(emit).parameters.values())[1:]
    kind = ir.FunctionType(ir.VoidType(), [_INT] * len(parameters))
    signature = types.void(*[types.intp] * len(parameters))

    def codegen(context: Any, builder: Any, _signature: Any, arguments: Sequence[Any]) -> Any:
        name = f"uprnet_{emit.__name__}"
        function = cgutils.get_or_insert_function(builder.module, kind, name)  # type: ignore[no-untyped-call]
        if function.is_declaration:
            function.linkage = "linkonce_odr"
            function.attributes.add("noinline")
            code = Code(ir.IRBuilder(function.append_basic_block()))
            emit(code, *function.args)
            code.builder.ret_void()
        builder.call(function, arguments)
        return context.get_dummy_value()

    def define(_context: Any, *_types: Any) -> Any:
        return signature, codegen

    return _intrinsic(define, emit, parameters)


def inlined(emit: Callable[..., None]) -> Any:
    """Make code that is put in line where it is called out of ``emit(code, number, *arguments)``.

    ``number`` is LLVM's type of the last argument, float32 or float64; other arguments have it, too, or are integers.
    """
    parameters = list(inspect.signature(emit).parameters.values())[2:]

    def define(_context: Any, *kinds: Any) -> Any:
        number = _FLOAT if kinds[-1] == types.float32 else ir.DoubleType()

        def codegen(context: Any, builder: Any, _signature: Any, arguments: Sequence[Any]) -> Any:
            emit(Code(builder), number, *arguments)
            return context.get_dummy_value()

        return types.void(*(types.intp if isinstance(kind, types.Integer) else kinds[-1] for kind in kinds)), codegen

    return _intrinsic(define, emit, parameters)


def _intrinsic(define: Any, emit: Callable[..., None], parameters: list[inspect.Parameter]) -> Any:
    """Make an intrinsic of numba's that has the name and the parameters of ``emit``."""
    context = inspect.Parameter("context", inspect.Parameter.POSITIONAL_OR_KEYWORD)
    define.__signature__ = inspect.Signature([context, *parameters])
    define.__name__, define.__doc__ = emit.__name__, emit.__doc__
    return intrinsic(define)


@instruction
def copy(code: Code, target: Any, source: Any, count: Any) -> None:
    """Copy ``count`` numbers."""
    for kind, offset in code.parts(count):
        code.store(code.load(code.at(source, offset), kind), code.at(target, offset))


@instruction
def copy_pixels(
    code: Code, target: Any, target_step: Any, source: Any, source_step: Any, pixels: Any, channels: Any
) -> None:
    """Copy the ``channels`` numbers of each of ``pixels`` pixels, which are some bytes apart in either place."""
    with cgutils.for_range(code.builder, pixels) as loop:
        to = code.at(target, code.builder.mul(loop.index, target_step))
        start = code.at(source, code.builder.mul(loop.index, source_step))
        for kind, offset in code.parts(channels):
            code.store(code.load(code.at(start, offset), kind), code.at(to, offset))


@instruction
def clear(code: Code, target: Any, count: Any) -> None:
    """Write ``count`` zeros."""
    for kind, offset in code.parts(count):
        code.store(ir.Constant(kind, None), code.at(target, offset))


@inlined
def add_to_four(
    code: Code, number: Any, target: Any, row: Any, pixel: Any, source: Any, count: Any, a: Any, b: Any, c: Any, d: Any
) -> None:
    """Add ``count`` numbers, ``a`` to ``d`` times, to four pixels: one, the next one, and both a row further."""
    places = [target, code.at(target, pixel), code.at(target, row), code.at(target, row, pixel)]
    for kind, offset in code.parts(count, number):
        numbers = code.load(code.at(source, offset), kind)
        for corner, factor in zip(places, (a, b, c, d), strict=True):
            place = code.at(corner, offset)
            code.store(code.multiply_add(numbers, code.spread(factor, kind), code.load(place, kind)), place)


@inlined
def sum_of_four(
    code: Code, number: Any, target: Any, source: Any, row: Any, pixel: Any, count: Any, a: Any, b: Any, c: Any, d: Any
) -> None:
    """Write the sum of four pixels, ``a`` to ``d`` times: one, the next one, and both a row further."""
    places = [code.at(source, pixel), code.at(source, row), code.at(source, row, pixel)]
    for kind, offset in code.parts(count, number):
        total = code.builder.fmul(code.load(code.at(source, offset), kind), code.spread(a, kind))
        for corner, factor in zip(places, (b, c, d), strict=True):
            total = code.multiply_add(code.load(code.at(corner, offset), kind), code.spread(factor, kind), total)
        code.store(total, code.at(target, offset))


@inlined
def copy_scaled(code: Code, number: Any, target: Any, source: Any, count: Any, factor: Any) -> None:
    """Copy ``count`` numbers, times a factor."""
    for kind, offset in code.parts(count, number):
        scaled = code.builder.fmul(code.load(code.at(source, offset), kind), code.spread(factor, kind))
        code.store(scaled, code.at(target, offset))
