"""What is computed number by number: of one value, or of two of which one may be repeated."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from qanas.deployment.standalone.emitter import Emitter
from qanas.deployment.standalone.layers import activation_of, code_range
from qanas.deployment.standalone.moves import present, steps_of
from qanas.deployment.standalone.rounding import multiplier_and_exponent
from qanas.quantization.numbers.affine import Affine
from qanas.quantization.numbers.requantization import float32_factor
from qanas.quantization.operators.arithmetic import FINE_STEPS
from qanas.quantization.operators.functions import ElementwiseFunction, HardSwish, Logistic, Tanh
from qanas.quantization.program import RuntimeOperator, RuntimeTensor

AXES_OF_PAIRS = 4


def _pairs(emitter: Emitter, left: RuntimeTensor, right: RuntimeTensor, output: RuntimeTensor) -> list[list[int]]:
    """Return the fields of `pairs.c`: sizes, and how far the next number of either value is, for four axes."""
    shape = output.shape
    steps = [_steps(tensor.shape, shape) for tensor in (left, right)]
    axes: list[tuple[int, int, int]] = []
    for size, one, other in zip(shape, *steps, strict=True):
        if size == 1:
            continue
        if axes and axes[-1][1:] == (one * size, other * size):
            axes[-1] = (axes[-1][0] * size, one, other)
        else:
            axes.append((size, one, other))
    emitter.require(len(axes) <= AXES_OF_PAIRS, f"values repeated along axes so that {len(axes)} of them are left")
    axes = [(1, 0, 0)] * (AXES_OF_PAIRS - len(axes)) + axes
    return [list(column) for column in zip(*axes, strict=True)]


def _steps(shape: Sequence[int], wanted: Sequence[int]) -> list[int]:
    """Return how far the next number is along each wanted axis: 0 where the value is repeated.

    >>> _steps((3, 1), (2, 3, 4))
    [0, 1, 0]
    """
    whole = [1] * (len(wanted) - len(shape)) + list(shape)
    return [0 if size == 1 else step for size, step in zip(whole, steps_of(whole), strict=True)]


Fields = Callable[[RuntimeOperator, Affine, Affine, Affine], list[object]]


def _sum(operator: RuntimeOperator, left: Affine, right: Affine, output: Affine) -> list[object]:
    common, fine = 2.0 * max(left.scale, right.scale), FINE_STEPS[output.bits]
    factors = (left.scale / common, right.scale / common, common / (fine * output.scale))
    multipliers, exponents = zip(*map(multiplier_and_exponent, factors), strict=True)
    points = (left.zero_point, right.zero_point, output.zero_point)
    return [*multipliers, *exponents, operator.kind == "SUB", *points, *code_range(output, activation_of(operator))]


def _product(operator: RuntimeOperator, left: Affine, right: Affine, output: Affine) -> list[object]:
    factor = multiplier_and_exponent(float32_factor([left.scale, right.scale], output.scale))
    points = (left.zero_point, right.zero_point, output.zero_point)
    return [*factor, *points, *code_range(output, activation_of(operator))]


def _extreme(operator: RuntimeOperator, left: Affine, right: Affine, output: Affine) -> list[object]:
    del left, right, output
    return [operator.kind == "MAXIMUM"]


def _prelu(operator: RuntimeOperator, values: Affine, slopes: Affine, output: Affine) -> list[object]:
    del operator
    above = multiplier_and_exponent(float32_factor([values.scale], output.scale))
    below = multiplier_and_exponent(float32_factor([values.scale, slopes.scale], output.scale))
    return [above[0], below[0], above[1], below[1], values.zero_point, slopes.zero_point, output.zero_point]


OF_TWO: Mapping[str, tuple[str, Fields]] = {
    "ADD": ("add", _sum),
    "MAXIMUM": ("extreme_of_two", _extreme),
    "MINIMUM": ("extreme_of_two", _extreme),
    "MUL": ("multiply", _product),
    "PRELU": ("prelu", _prelu),
    "SUB": ("add", _sum),
}
"""The kernel of what is computed of two values, and its fields, by kind of operator."""


def of_two(emitter: Emitter, operator: RuntimeOperator) -> None:
    """Emit what is computed of two values."""
    kernel, fields = OF_TWO[operator.kind]
    left, right, output = present(operator), present(operator, 1), operator.outputs[0]
    affines = [emitter.affine(tensor) for tensor in (left, right, output)]
    layer = emitter.layer(f"{kernel}_layer", _pairs(emitter, left, right, output), *fields(operator, *affines))
    emitter.call(kernel, layer, *(emitter.address(tensor) for tensor in (left, right, output)))


def rescaled(emitter: Emitter, operator: RuntimeOperator) -> None:
    """Emit QUANTIZE, RELU, RELU6, LEAKY_RELU or ABS: a factor above zero, and one below."""
    value = present(operator)
    source, output = emitter.affine(value), emitter.affine(operator.outputs[0])
    kind = operator.kind
    above = float32_factor([source.scale], output.scale) if kind != "QUANTIZE" else source.scale / output.scale
    below = above
    if kind == "LEAKY_RELU":
        below = float32_factor([source.scale, float(operator.options["alpha"])], output.scale)
    factors = [multiplier_and_exponent(factor) if factor > 0.0 else (0, 0) for factor in (above, below)]
    activation = {"RELU": "relu", "RELU6": "relu6"}.get(kind, "none")
    layer = emitter.layer(
        "rescale_codes_layer",
        value.elements,
        *(multiplier for multiplier, _ in factors),
        *(exponent for _, exponent in factors),
        -1 if kind == "ABS" else 1,
        source.zero_point,
        output.zero_point,
        *code_range(output, activation),  # type: ignore[arg-type]
    )
    emitter.call("rescale_codes", layer, emitter.address(value), emitter.address(operator.outputs[0]))


FUNCTIONS: Mapping[str, ElementwiseFunction] = {"HARD_SWISH": HardSwish(), "LOGISTIC": Logistic(), "TANH": Tanh()}
"""Functions by kind of operator that are looked up: float32 is behind the kernels' own tables, and of a hard swish one
takes less time than what it stands for."""


def looked_up(emitter: Emitter, operator: RuntimeOperator) -> None:
    """Emit a function as a table of the results for all codes, which the simulation makes."""
    value = present(operator)
    source, output = emitter.affine(value), emitter.affine(operator.outputs[0])
    codes = np.clip(FUNCTIONS[operator.kind].table(source, output), output.low, output.high)
    _emit_table(emitter, codes, value, operator.outputs[0])


def in_table(emitter: Emitter, operator: RuntimeOperator) -> None:
    """Emit a function whose results are stored already."""
    value, table = present(operator), present(operator, 1)
    for tensor in (value, operator.outputs[0]):
        emitter.affine(tensor)
    _emit_table(emitter, np.asarray(table.data), value, operator.outputs[0])


def _emit_table(emitter: Emitter, codes: NDArray[Any], value: RuntimeTensor, output: RuntimeTensor) -> None:
    table = emitter.array("table", "int8_t", codes)
    emitter.call("look_up", table, emitter.address(value), emitter.address(output), str(value.elements))
