"""Functions of one value: a table of every code's result says all of an integer kernel.

Logistic and tanh: the kernels of 8 bits tabulate the true functions in float32, those of 16 bits interpolate; neither
is what the kernel of an LSTM does. Hard swish is in the kernel's 16-bit fixed point (Howard et al. 2019, "Searching for
MobileNetV3", section 5.2).
"""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812 - torch's own idiom
from numpy.typing import NDArray
from torch import Tensor

from qanas.quantization.numbers.affine import BYTE_BITS, Affine
from qanas.quantization.numbers.expm1 import expm1
from qanas.quantization.numbers.functions import Codes, Word, multiplier_and_power
from qanas.quantization.numbers.requantization import FixedPoint, float32_factor, with_reachable_scale
from qanas.quantization.numbers.rounding import halve, round_half_away_array
from qanas.quantization.operators.base import Operator, QuantizedOperator, Shape
from qanas.quantization.program import COMMON_VERSIONS, DType, Program, RuntimeOperator, RuntimeTensor
from qanas.quantization.ranges import Ranges
from qanas.quantization.scheme import Scheme, UnsupportedSchemeError
from qanas.quantization.simulation.fast import FastKernel, tabulated


class ElementwiseFunction(Operator):
    """A function of one value, element by element."""

    kind: ClassVar[str]
    """The builtin operator."""

    versions: ClassVar[Mapping[DType, int]] = COMMON_VERSIONS

    @abstractmethod
    def table(self, source: Affine, output: Affine) -> NDArray[Any]:
        """Return the kernel's output for every code of the input, in order: whole, not yet clipped, shape (2^bits,)."""

    def options(self) -> Mapping[str, float]:
        """Return the fields of the operator's option table."""
        return {}

    def output_affine(self, source: Affine, ranges: Ranges) -> Affine:
        """Return the parameters of the output: those of its range, unless the kernel demands others."""
        return with_reachable_scale(Affine.from_range(*ranges.output, bits=source.bits), source.scale)

    def output_shape(self, *inputs: Shape) -> Shape:
        """Return the input's shape."""
        return inputs[0]

    def quantize(self, inputs: Sequence[Affine], ranges: Ranges, scheme: Scheme) -> tuple[QuantizedOperator, Affine]:
        """Tabulate the kernel."""
        del scheme
        output = self.output_affine(inputs[0], ranges)
        return QuantizedFunction(self, code_table(self.table(inputs[0], output), output)), output

    def lower(self, program: Program, inputs: Sequence[RuntimeTensor], output: RuntimeTensor) -> None:
        """Append the operator; the same for codes and real values."""
        version = self.versions[output.dtype]
        program.append(RuntimeOperator(self.kind, version, inputs, [output], self.options()))


def steps_from_zero(source: Affine) -> Codes:
    """Return code - zero point for every code, in order, shape (2^bits,)."""
    return np.arange(source.low, source.high + 1, dtype=np.int64) - source.zero_point


def code_table(codes: NDArray[Any], output: Affine) -> Tensor:
    """Return whole numbers of shape (2^bits,), clipped to what codes there are, as a table for `look_up`."""
    return torch.from_numpy(np.clip(codes, output.low, output.high).astype(np.float32))


def look_up(table: Tensor, codes: Tensor) -> Tensor:
    """Return the entries for codes of any shape, of a table of shape (2^bits,), half of them of negative codes."""
    return table.take((codes + len(table) // 2).to(torch.int64))


@dataclass(frozen=True)
class QuantizedFunction(QuantizedOperator):
    """A function of codes.

    Attributes:
        function: which.
        values: the output's codes for all codes of the input in order, float32.
    """

    function: ElementwiseFunction
    values: Tensor

    def forward(self, *codes: Tensor) -> Tensor:
        """Look the codes up, shape (batch, *shape)."""
        return look_up(self.values, codes[0])

    def fast_kernel(self, inputs: Sequence[Affine], output: Affine) -> FastKernel:
        """Look all codes up that there are."""
        return tabulated(self.forward, inputs[0], output)

    def lower(self, program: Program, inputs: Sequence[RuntimeTensor], output: RuntimeTensor) -> None:
        """Append the integer operator."""
        self.function.lower(program, inputs, output)


def _rescaled(steps: Codes, factor: float) -> NDArray[np.float64]:
    """Return steps of the input as whole steps of the output."""
    rescaled: NDArray[np.float64] = FixedPoint.of(factor)(torch.from_numpy(steps.astype(np.float64))).numpy()
    return rescaled


@dataclass(frozen=True)
class LeakyReLU(ElementwiseFunction):
    """``x`` above zero, ``slope * x`` below.

    Attributes:
        slope: below zero, 0 or more.
    """

    slope: float

    kind = "LEAKY_RELU"
    versions: ClassVar[Mapping[DType, int]] = {"float32": 1, "int8": 2, "int16": 2}

    def __post_init__(self) -> None:
        """Refuse slopes that older kernels can't have."""
        if self.slope < 0.0:
            raise ValueError(f"a leaky ReLU of slope {self.slope}; it must be 0 or more")

    def options(self) -> Mapping[str, float]:
        """Return the slope."""
        return {"alpha": self.slope}

    def forward(self, *inputs: Tensor) -> Tensor:
        """Compute in float32, shape (batch, *shape)."""
        return F.leaky_relu(inputs[0], self.slope)

    def table(self, source: Affine, output: Affine) -> NDArray[Any]:
        """Rescale both sides of zero by factors of their own, shape (2^bits,)."""
        steps = steps_from_zero(source)
        above = _rescaled(steps, float32_factor([source.scale], output.scale))
        below = _rescaled(steps, float32_factor([source.scale, self.slope], output.scale))
        return np.where(steps >= 0, above, below) + output.zero_point


@dataclass(frozen=True)
class Absolute(ElementwiseFunction):
    """``|x|``."""

    kind = "ABS"
    activation_bits = (8,)

    def forward(self, *inputs: Tensor) -> Tensor:
        """Compute in float32, shape (batch, *shape)."""
        return inputs[0].abs()

    def table(self, source: Affine, output: Affine) -> NDArray[Any]:
        """Rescale distances from zero, shape (2^bits,)."""
        return (
            _rescaled(np.abs(steps_from_zero(source)), float32_factor([source.scale], output.scale)) + output.zero_point
        )


WORD = Word(16)

FINE_BITS = 7
"""The kernel divides a step of the input by 2^7."""

THREE = np.float32(3.0 / 32768.0)
"""The scale on which 3 is the end of a 16-bit word."""

LARGEST_OUTPUT_FACTOR = 127.0 / 128.0
"""LiteRT refuses an output scale of a fine step of the input or less."""


def _multiplier(factor: float) -> tuple[int, int]:
    """Return a factor as a multiplier in Q0.15 and a power of two."""
    multiplier, exponent = multiplier_and_power(factor)
    return min(WORD.constant(multiplier), WORD.high), exponent


@dataclass(frozen=True)
class HardSwish(ElementwiseFunction):
    """``x * min(max(x + 3, 0), 6) / 6``."""

    kind = "HARD_SWISH"
    activation_bits = (8,)
    versions: ClassVar[Mapping[DType, int]] = {"float32": 1, "int8": 1}

    def forward(self, *inputs: Tensor) -> Tensor:
        """Compute in float32, shape (batch, *shape)."""
        return F.hardswish(inputs[0])

    def output_affine(self, source: Affine, ranges: Ranges) -> Affine:
        """Return the parameters of the output's range, the scale no finer than the kernel allows."""
        output = Affine.from_range(*ranges.output)
        finest = float(np.float32(source.scale / 2**FINE_BITS / LARGEST_OUTPUT_FACTOR))
        return output if output.scale >= finest else replace(output, scale=finest)

    def table(self, source: Affine, output: Affine) -> NDArray[Any]:
        """Compute as the kernel does: x on the output's scale times (x + 3) / 6 in Q0.15, shape (2^bits,)."""
        fine = steps_from_zero(source) << FINE_BITS
        fine_scale = np.float32(1.0 / 128.0) * np.float32(source.scale)
        factor, exponent = _multiplier(float32_factor([float(fine_scale)], output.scale))
        before_shift = WORD.multiply(fine, factor)
        product = _truncated_product(self._gate(fine, float(fine_scale)), before_shift)
        return _shifted(product, exponent) + output.zero_point

    @staticmethod
    def _gate(fine: Codes, fine_scale: float) -> Codes:
        """Return min(max(x + 3, 0), 6) / 6 in Q0.15."""
        factor, exponent = _multiplier(float32_factor([fine_scale], float(THREE)))
        # The last doubling comes after the product: what saturates before it would saturate in it as well.
        doubled = WORD.double(fine, max(exponent - 1, 0))
        gate = WORD.multiply(doubled, factor)
        gate = WORD.double(gate, 1) if exponent > 0 else _shifted(gate, exponent)
        return (gate + (1 << 15)) >> 1


def _truncated_product(left: Codes, right: Codes) -> Codes:
    """Return the product of two numbers in Q0.15, rounded towards zero."""
    product = left * right
    truncated: Codes = np.sign(product) * (np.abs(product) >> 15)
    return truncated


def _shifted(values: Codes, exponent: int) -> Codes:
    """Multiply by 2^exponent of 0 or less, rounded."""
    return halve(values, -exponent) if exponent < 0 else values


Reals = NDArray[np.float32]

LARGEST_POSITION = 255
"""The last entry of the table that kernels of 16 bits interpolate in; beyond it they saturate."""

ONE = (1 << 16) - 1
"""What they saturate to, in Q0.16."""

LARGEST_STEP = 5.0
"""Of their input: larger ones overflow 32 bits."""

NEAR = 1e-3
"""How far a logarithm may be from a whole number."""

LONGEST_SHIFT = 30
"""That they scale their input by."""


class _Sigmoid(ElementwiseFunction):
    """What is common to both: output parameters that the kernel demands."""

    parameters_from = "kernel"

    demanded: ClassVar[Mapping[int, Affine]]
    """The output's parameters, by its bits."""

    @abstractmethod
    def true_values(self, values: Reals) -> Reals:
        """Return the function in float32."""

    def output_affine(self, source: Affine, ranges: Ranges) -> Affine:
        """Return the kernel's parameters.

        Raises:
            UnsupportedSchemeError: inputs that overflow in the kernel of 16 bits.
        """
        del ranges
        if source.wide and source.scale > LARGEST_STEP:
            raise UnsupportedSchemeError(
                f"inputs in steps of {source.scale:g}; the kernel of 16 bits takes {LARGEST_STEP:g} at most; "
                f"give this layer activation_bits = {BYTE_BITS}"
            )
        # An object a value: values of one kind are equal by demand, yet only identical ones share bytes in the file.
        return replace(self.demanded[source.bits])

    @abstractmethod
    def interpolated(self, source: Affine) -> Codes:
        """Return the results of the kernel of 16 bits, for every code, shape (2^16,)."""

    def table(self, source: Affine, output: Affine) -> NDArray[Any]:
        """Round as the kernel does, shape (2^bits,)."""
        return self.interpolated(source) if source.wide else self._rounded(source, output)

    def _rounded(self, source: Affine, output: Affine) -> NDArray[Any]:
        """Round in float32, ties away from zero."""
        values = np.float32(source.scale) * steps_from_zero(source).astype(np.float32)
        scaled = (self.true_values(values) * np.float32(1.0 / output.scale)).astype(np.float64)
        return round_half_away_array(scaled) + output.zero_point


@dataclass(frozen=True)
class Logistic(_Sigmoid):
    """``1 / (1 + exp(-x))``."""

    kind = "LOGISTIC"
    demanded: ClassVar[Mapping[int, Affine]] = {8: Affine(1.0 / 256.0, -128), 16: Affine(1.0 / 32768.0, 0, 16)}

    def forward(self, *inputs: Tensor) -> Tensor:
        """Compute in float32, shape (batch, *shape)."""
        return torch.sigmoid(inputs[0])

    def interpolated(self, source: Affine) -> Codes:
        """Interpolate between steps of 1/24, shape (2^16,); see `LOGISTIC_TABLE`."""
        fine = _fine_steps(source, exponents=(-12,))
        saturated = np.abs(fine) >> 9 >= LARGEST_POSITION
        found = np.where(saturated, (ONE >> 1) << 10, _interpolated(np.abs(fine), 9))
        return np.where(fine >= 0, found + (1 << 9), (1 << 25) - found + (1 << 9) - 1) >> 10

    def true_values(self, values: Reals) -> Reals:
        """Return the function, the exponential rounded to float32 as the C library does."""
        with np.errstate(over="ignore"):
            exponentials = np.exp(-values.astype(np.float64)).astype(np.float32)
        return np.float32(1.0) / (np.float32(1.0) + exponentials)


@dataclass(frozen=True)
class Tanh(_Sigmoid):
    """The hyperbolic tangent."""

    kind = "TANH"
    demanded: ClassVar[Mapping[int, Affine]] = {8: Affine(1.0 / 128.0, 0), 16: Affine(1.0 / 32768.0, 0, 16)}

    def forward(self, *inputs: Tensor) -> Tensor:
        """Compute in float32, shape (batch, *shape)."""
        return torch.tanh(inputs[0])

    def interpolated(self, source: Affine) -> Codes:
        """Interpolate in the logistic function's table, shape (2^16,): tanh(x) = 2 logistic(2 x) - 1."""
        fine = _fine_steps(source, exponents=(-12, -11))
        saturated = np.abs(fine) >> 8 >= LARGEST_POSITION
        found = np.where(saturated, ONE << 8, _interpolated(np.abs(fine), 8))
        return np.where(fine >= 0, found - (1 << 23) + (1 << 7), (1 << 23) - found + (1 << 7) - 1) >> 8

    def true_values(self, values: Reals) -> Reals:
        """Return the function, from exp(x) - 1 in float32 as most C libraries do (Sun's fdlibm).

        So do glibc to 2.40 and newlib, to the last bit; a code of 8 bits may differ where a library rounds otherwise.
        """
        one, two, sizes = np.float32(1.0), np.float32(2.0), np.abs(values)
        small, large = expm1(-two * np.minimum(sizes, one)), expm1(two * np.maximum(sizes, one))
        return np.copysign(np.where(sizes < one, -small / (small + two), one - two / (large + two)), values)


def _logistic_table() -> Codes:
    """Return the kernels' table: entries are raised by half of what lines between them lack in the middle."""
    positions = np.arange(2 * LARGEST_POSITION + 1) / 48.0
    values = 65536.0 / (1.0 + np.exp(-positions))
    ends, middles = values[::2], values[1::2]
    lacking = middles - (ends[:-1] + ends[1:]) / 2.0
    return np.append(np.floor(ends[:-1] + lacking / 2.0 + 0.5), ONE).astype(np.int64)


LOGISTIC_TABLE = _logistic_table()
"""The logistic function of 0, 1/24, ..., 255/24 in Q0.16."""


def _interpolated(fine: Codes, bits: int) -> Codes:
    """Return the logistic function in Q0.(16 + bits) of numbers in steps of 2^-bits / 24, 0 to 255/24."""
    lower = np.minimum(fine >> bits, LARGEST_POSITION - 1)
    first, second = LOGISTIC_TABLE[lower], LOGISTIC_TABLE[lower + 1]
    interpolated: Codes = (first << bits) + (fine - (lower << bits)) * (second - first)
    return interpolated


def _fine_steps(source: Affine, exponents: Sequence[int]) -> Codes:
    """Return every code in steps of 2^-12 / 3, shape (2^16,).

    Args:
        source: parameters of the codes.
        exponents: of the powers of two that the kernel takes scales for that are near them.
    """
    logarithm = math.log2(source.scale)
    exponent = round(logarithm)
    multiplier, shift = 3.0 * 2.0 ** (12 + exponent), 0
    if exponent not in exponents or abs(logarithm - exponent) >= NEAR:
        multiplier = 3.0 * 2.0**12 * source.scale
        while multiplier <= (2.0**15 - 1.0) / 2.0 and shift <= LONGEST_SHIFT:
            multiplier, shift = 2.0 * multiplier, shift + 1
    return (steps_from_zero(source) * int(multiplier) + ((1 << shift) >> 1)) >> shift
