"""Eight floats in one register, for compiled code: the type `Lanes`, arithmetic, loads and stores, a batch in lanes.

In the compiled trainers the samples of a batch lie side by side in memory ("lanes"), and every instruction works on
eight of them. Loops that a compiler may or may not vectorise would make speed a matter of luck, and the flags that
let it reorder sums (``fastmath``) have silently broken gradients before. So the vector operations are spelled out,
and nothing is reordered behind our back.
"""

# ruff: noqa: ARG001 - the signatures of the functions that write instructions are Numba's

from __future__ import annotations

import operator
from collections.abc import Callable
from typing import Any, TypeAlias

import numpy as np
from llvmlite import ir  # type: ignore[import-untyped]
from numba.core import cgutils, types
from numba.core.extending import intrinsic, models, register_model
from numba.core.imputils import lower_builtin
from numba.core.typing.templates import ConcreteTemplate, infer_global, signature
from numpy.typing import NDArray

from qanas.core.compilation import part

WIDTH = 8
"""Floats of one `Lanes` value. Processors with shorter registers take two; longer ones are half used."""

PAIR = 2 * WIDTH
"""Samples that the matrix loops take at once."""

FloatArray = NDArray[np.float32]
IntArray = NDArray[np.int64]
Lanes: TypeAlias = Any  # a value of LANES; it exists in compiled code only
LLVM: TypeAlias = Any  # something of Numba's or llvmlite's, which have no types

# ------------------------------------------------ the type of eight floats, and its operations


class LanesType(types.Type):
    """Numba's name for eight floats in a register."""


LANES = LanesType(name="Lanes")
_VECTOR = ir.VectorType(ir.FloatType(), WIDTH)
_INTEGERS = ir.VectorType(ir.IntType(32), WIDTH)


@register_model(LanesType)
class _LanesModel(models.PrimitiveModel):
    def __init__(self, manager: LLVM, numba_type: LLVM) -> None:
        super().__init__(manager, numba_type, _VECTOR)  # type: ignore[no-untyped-call]


def _operator(function: LLVM, instruction: str) -> None:
    """Let ``function`` of two `Lanes` be one LLVM instruction."""

    class _Template(ConcreteTemplate):
        cases = [signature(LANES, LANES, LANES)]  # type: ignore[no-untyped-call] # noqa: RUF012 - Numba's protocol

    infer_global(function)(_Template)  # type: ignore[no-untyped-call]

    @lower_builtin(function, LANES, LANES)  # type: ignore[untyped-decorator,no-untyped-call]
    def _lower(context: LLVM, builder: LLVM, sig: LLVM, args: LLVM) -> LLVM:
        return getattr(builder, instruction)(*args)


_operator(operator.add, "fadd")
_operator(operator.sub, "fsub")
_operator(operator.mul, "fmul")
_operator(operator.truediv, "fdiv")


def _vector_instruction(function: Callable[..., LLVM]) -> Callable[..., LLVM]:
    """Make a function that writes LLVM instructions callable in compiled code."""
    callable_there: Callable[..., LLVM] = intrinsic(function)
    return callable_there


def _splat(builder: LLVM, scalar: LLVM, vector: LLVM = _VECTOR) -> LLVM:
    """Return ``scalar`` in every lane."""
    one = builder.insert_element(ir.Constant(vector, ir.Undefined), scalar, ir.Constant(ir.IntType(32), 0))
    mask = ir.Constant(ir.VectorType(ir.IntType(32), WIDTH), [0] * WIDTH)
    return builder.shuffle_vector(one, ir.Constant(vector, ir.Undefined), mask)


def _pointer(context: LLVM, builder: LLVM, sig: LLVM, args: LLVM, count: int = WIDTH) -> LLVM:
    """Return the address of ``array[index]``, the first two arguments, as that of ``count`` floats."""
    array = context.make_array(sig.args[0])(context, builder, args[0])
    address = builder.gep(array.data, [args[1]])
    return builder.bitcast(address, ir.VectorType(ir.FloatType(), count).as_pointer())


@_vector_instruction
def load(typing_context: LLVM, array: LLVM, index: LLVM) -> LLVM:
    """``array[index : index + 8]``, unchecked."""

    def generate(context: LLVM, builder: LLVM, sig: LLVM, args: LLVM) -> LLVM:
        return builder.load(_pointer(context, builder, sig, args), align=4)

    return LANES(array, types.int64), generate


@_vector_instruction
def store(typing_context: LLVM, array: LLVM, index: LLVM, value: LLVM) -> LLVM:
    """``array[index : index + 8] = value``, unchecked."""

    def generate(context: LLVM, builder: LLVM, sig: LLVM, args: LLVM) -> LLVM:
        builder.store(args[2], _pointer(context, builder, sig, args), align=4)
        return context.get_dummy_value()

    return types.void(array, types.int64, LANES), generate


@_vector_instruction
def broadcast(typing_context: LLVM, array: LLVM, index: LLVM) -> LLVM:
    """``array[index]`` in every lane, unchecked."""

    def generate(context: LLVM, builder: LLVM, sig: LLVM, args: LLVM) -> LLVM:
        array = context.make_array(sig.args[0])(context, builder, args[0])
        return _splat(builder, builder.load(builder.gep(array.data, [args[1]]), align=4))

    return LANES(array, types.int64), generate


@_vector_instruction
def splat(typing_context: LLVM, scalar: LLVM) -> LLVM:
    """A number in every lane."""

    def generate(context: LLVM, builder: LLVM, sig: LLVM, args: LLVM) -> LLVM:
        return _splat(builder, builder.fptrunc(args[0], ir.FloatType()))

    return LANES(types.float64), generate


@_vector_instruction
def fma(typing_context: LLVM, a: LLVM, b: LLVM, c: LLVM) -> LLVM:
    """``a * b + c``, fused where the processor can."""

    def generate(context: LLVM, builder: LLVM, sig: LLVM, args: LLVM) -> LLVM:
        function = ir.FunctionType(_VECTOR, [_VECTOR] * 3)
        name = f"llvm.fmuladd.v{WIDTH}f32"
        callee = cgutils.get_or_insert_function(builder.module, function, name)  # type: ignore[no-untyped-call]
        return builder.call(callee, args)

    return LANES(LANES, LANES, LANES), generate


@_vector_instruction
def clamp(typing_context: LLVM, value: LLVM, low: LLVM, high: LLVM) -> LLVM:
    """``value`` within [low, high]; NaN stays NaN, which a minimum instruction would not promise."""

    def generate(context: LLVM, builder: LLVM, sig: LLVM, args: LLVM) -> LLVM:
        value, low, high = args
        value = builder.select(builder.fcmp_ordered(">", value, high), high, value)
        return builder.select(builder.fcmp_ordered("<", value, low), low, value)

    return LANES(LANES, LANES, LANES), generate


@_vector_instruction
def relu(typing_context: LLVM, value: LLVM) -> LLVM:
    """``value`` where it is above zero, else zero; NaN stays NaN, as in torch."""

    def generate(context: LLVM, builder: LLVM, sig: LLVM, args: LLVM) -> LLVM:
        zero = ir.Constant(_VECTOR, [0.0] * WIDTH)
        return builder.select(builder.fcmp_ordered("<=", args[0], zero), zero, args[0])

    return LANES(LANES), generate


@_vector_instruction
def where_positive(typing_context: LLVM, condition: LLVM, value: LLVM) -> LLVM:
    """``value`` where ``condition`` is above zero (or NaN), else zero: the way back of `relu`."""

    def generate(context: LLVM, builder: LLVM, sig: LLVM, args: LLVM) -> LLVM:
        zero = ir.Constant(_VECTOR, [0.0] * WIDTH)
        return builder.select(builder.fcmp_ordered("<=", args[0], zero), zero, args[1])

    return LANES(LANES, LANES), generate


@_vector_instruction
def power_of_two(typing_context: LLVM, shifted: LLVM) -> LLVM:
    """2^n for ``shifted = n + 1.5 * 2^23``: its lowest bits, n, are moved to the exponent's."""

    def generate(context: LLVM, builder: LLVM, sig: LLVM, args: LLVM) -> LLVM:
        bits = builder.bitcast(args[0], _INTEGERS)
        exponent = builder.shl(bits, ir.Constant(_INTEGERS, [23] * WIDTH))
        return builder.bitcast(builder.add(exponent, ir.Constant(_INTEGERS, [127 << 23] * WIDTH)), _VECTOR)

    return LANES(LANES), generate


@_vector_instruction
def lane_sum(typing_context: LLVM, value: LLVM) -> LLVM:
    """The sum over the lanes, by halves: ((0+4)+(2+6)) + ((1+5)+(3+7))."""

    def generate(context: LLVM, builder: LLVM, sig: LLVM, args: LLVM) -> LLVM:
        vector, lanes = args[0], WIDTH
        while lanes > 1:
            lanes //= 2
            vector = builder.fadd(*_halves(builder, vector, lanes))
        return builder.extract_element(vector, ir.Constant(ir.IntType(32), 0))

    return types.float32(LANES), generate


def _halves(builder: LLVM, vector: LLVM, lanes: int) -> list[LLVM]:
    """Return the lower and the upper ``lanes`` lanes of a vector of twice as many."""
    integers = ir.VectorType(ir.IntType(32), lanes)
    masks = [list(range(lanes)), list(range(lanes, 2 * lanes))]
    return [builder.shuffle_vector(vector, vector, ir.Constant(integers, mask)) for mask in masks]


@_vector_instruction
def add_lane_sums(typing_context: LLVM, array: LLVM, index: LLVM, a: LLVM, b: LLVM, c: LLVM, d: LLVM) -> LLVM:
    """``array[index : index + 4] += lane_sum(a), ..., lane_sum(d)``."""

    def generate(context: LLVM, builder: LLVM, sig: LLVM, args: LLVM) -> LLVM:
        def pairs(x: LLVM, y: LLVM) -> LLVM:
            # x0+x1, x2+x3, y0+y1, y2+y3, x4+x5, ...: what horizontal-add instructions do
            even = ir.Constant(_INTEGERS, [0, 2, 8, 10, 4, 6, 12, 14])
            odd = ir.Constant(_INTEGERS, [1, 3, 9, 11, 5, 7, 13, 15])
            return builder.fadd(builder.shuffle_vector(x, y, even), builder.shuffle_vector(x, y, odd))

        sums = builder.fadd(*_halves(builder, pairs(pairs(*args[2:4]), pairs(*args[4:6])), 4))
        pointer = _pointer(context, builder, sig, args, 4)
        builder.store(builder.fadd(builder.load(pointer, align=4), sums), pointer, align=4)
        return context.get_dummy_value()

    return types.void(array, types.int64, LANES, LANES, LANES, LANES), generate


@_vector_instruction
def copy_transposed(
    typing_context: LLVM,
    source: LLVM,
    places: LLVM,
    target: LLVM,
    start: LLVM,
    stride: LLVM,
) -> LLVM:
    """``target[start + stride * f + lane] = source[places[lane] + f]`` for eight features and eight lanes."""
    target_signature = types.void(target)

    def generate(context: LLVM, builder: LLVM, sig: LLVM, args: LLVM) -> LLVM:
        def shuffled(x: LLVM, y: LLVM, mask: list[int]) -> LLVM:
            return builder.shuffle_vector(x, y, ir.Constant(_INTEGERS, mask))

        source, places, target, start, stride = args
        v = [
            builder.load(_pointer(context, builder, sig, (source, place)), align=4)
            for place in cgutils.unpack_tuple(builder, places, WIDTH)  # type: ignore[no-untyped-call]
        ]
        # 8 x 8 in three rounds: interleave floats of neighbours, then pairs of floats, then halves
        rounds = [
            ([0, 8, 1, 9, 4, 12, 5, 13], [2, 10, 3, 11, 6, 14, 7, 15], [(0, 1), (2, 3), (4, 5), (6, 7)]),
            ([0, 1, 8, 9, 4, 5, 12, 13], [2, 3, 10, 11, 6, 7, 14, 15], [(0, 2), (1, 3), (4, 6), (5, 7)]),
            ([0, 1, 2, 3, 8, 9, 10, 11], [4, 5, 6, 7, 12, 13, 14, 15], [(0, 4), (1, 5), (2, 6), (3, 7)]),
        ]
        for low, high, pairs in rounds:
            v = [shuffled(v[x], v[y], mask) for x, y in pairs for mask in (low, high)]
        for f, vector in zip((0, 4, 1, 5, 2, 6, 3, 7), v, strict=True):  # where the rounds have brought them
            place = builder.add(start, builder.mul(stride, ir.Constant(ir.IntType(64), f)))
            builder.store(vector, _pointer(context, builder, target_signature, (target, place)), align=4)
        return context.get_dummy_value()

    eight = types.UniTuple(types.int64, WIDTH)  # type: ignore[no-untyped-call]
    return types.void(source, eight, target, types.int64, types.int64), generate


# ------------------------------------------------ the samples of a batch, side by side


@part
def gather(
    inputs: FloatArray,
    indices: IntArray,
    first: int,
    sizes: tuple[int, int, int, int, int],
    space: FloatArray,
    at: int,
) -> None:
    """Copy samples from (sample, step, feature) to (step, row, sample); the features are the first rows.

    Lanes beyond the batch get zeros: with a zero gradient of the output they add nothing.

    Args:
        inputs: of all samples, shape (samples * steps * features,).
        indices: the batch, shape (batch,).
        first: the chunk's first sample of the batch.
        sizes: steps, features, rows of a step, lanes, used lanes.
        space: the workspace, shape (floats,).
        at: where the rows start.
    """
    steps, features, rows, lanes, used = sizes
    row = rows * lanes
    length = steps * features
    for q in range(0, used, WIDTH):
        samples = indices[first + q : first + q + WIDTH]
        if len(samples) == WIDTH and features >= WIDTH:
            p0, p1, p2, p3 = (
                samples[0] * length,
                samples[1] * length,
                samples[2] * length,
                samples[3] * length,
            )
            p4, p5, p6, p7 = (
                samples[4] * length,
                samples[5] * length,
                samples[6] * length,
                samples[7] * length,
            )
            for t in range(steps):
                for block in range(0, features, WIDTH):
                    f = min(block, features - WIDTH)  # the last block overlaps the one before it
                    s = t * features + f
                    places = (p0 + s, p1 + s, p2 + s, p3 + s, p4 + s, p5 + s, p6 + s, p7 + s)
                    copy_transposed(inputs, places, space, at + t * row + f * lanes + q, lanes)
            continue
        for lane in range(WIDTH):
            for t in range(steps):
                for f in range(features):
                    target = at + t * row + f * lanes + q + lane
                    if lane < len(samples):
                        space[target] = inputs[samples[lane] * length + t * features + f]
                    else:
                        space[target] = np.float32(0.0)
