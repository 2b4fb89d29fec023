"""Affine quantization: real value = scale * (code - zero point)."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal, get_args

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from qanas.quantization.numbers.rounding import round_half_away

WeightBits = Literal[4, 6, 8]
WEIGHT_BITS: tuple[WeightBits, ...] = get_args(WeightBits)

ActivationBits = Literal[8, 16]
ACTIVATION_BITS: tuple[ActivationBits, ...] = get_args(ActivationBits)

BYTE_BITS = 8
"""Bits of codes that have a zero point, and sums of products that fit 32 bits."""

FINEST_SCALE = 2.0**-28
"""Of values: the kernels want 6, where ReLU6 ends, to be less than 2^31 steps."""

SMALLEST_NORMAL = float(np.finfo(np.float32).tiny)
"""Of float32: what is below counts as 0."""

BiasCodes = NDArray[np.int32] | NDArray[np.int64]

Container = Literal["int8", "int4"]
CONTAINER_BITS: Mapping[Container, int] = {"int8": 8, "int4": 4}
"""Types of tensors that a file stores weights in, with their bits; those of 4 hold two weights a byte."""

ScaleKind = Literal["real", "power_of_two"]
"""Which scales there are: any, or whole powers of two, which a device multiplies by shifting."""

BIAS_REACH: Mapping[int, float] = {8: 2.0**30, 16: 2.0**37}
"""The largest code of a bias, by the bits of the values beside it: half of int32, the rest is left to the sum of
products; of int64 what lets float64 hold the sum times a multiplier of 15 bits."""


def _scale(width: float, steps: int, kind: ScaleKind) -> float | None:
    """Return the float32 scale at which a number of steps are ``width``, or more; None for (nearly) 0."""
    if not math.isfinite(width):
        raise ValueError(f"a range of width {width} can't be quantized")
    step = width / steps
    scale = float(np.float32(next_power_of_two(np.float64(step)) if kind == "power_of_two" else step))
    return None if scale < SMALLEST_NORMAL else max(scale, FINEST_SCALE)


def next_power_of_two(values: NDArray[np.float64] | np.float64) -> NDArray[np.float64]:
    """Return the smallest powers of two that are not below positive values, any shape.

    >>> next_power_of_two(np.array([0.25, 0.26, 3.0]))
    array([0.25, 0.5 , 4.  ])
    """
    mantissas, exponents = np.frexp(values)
    powers: NDArray[np.float64] = np.ldexp(1.0, np.where(mantissas == 0.5, exponents - 1, exponents))  # noqa: PLR2004
    return powers


@dataclass(frozen=True)
class Affine:
    """Scale and zero point of an activation.

    Attributes:
        scale: step between two codes, a float32 value.
        zero_point: the code of 0; 0 where codes have 16 bits, whose kernels know no other.
        bits: 8 or 16; codes are signed.
    """

    scale: float
    zero_point: int = 0
    bits: int = 8

    @property
    def wide(self) -> bool:
        """Whether codes take two bytes, and sums of products 64 bits."""
        return self.bits > BYTE_BITS

    @property
    def low(self) -> int:
        """The smallest code."""
        return -(1 << (self.bits - 1))

    @property
    def high(self) -> int:
        """The largest code."""
        return (1 << (self.bits - 1)) - 1

    @classmethod
    def from_range(cls, low: float, high: float, kind: ScaleKind = "real", bits: int = 8) -> Affine:
        """Return the parameters whose codes reach from ``low`` to ``high``, widened to include 0.

        A range without width (a constant zero) gets the scale 1.

        >>> Affine.from_range(0.0, 255.0)
        Affine(scale=1.0, zero_point=-128, bits=8)
        >>> Affine.from_range(-16384.0, 255.0, bits=16)
        Affine(scale=0.5, zero_point=0, bits=16)
        """
        if bits != BYTE_BITS:
            return cls._symmetric(low, high, kind, bits)
        low, high = min(low, 0.0), max(high, 0.0)
        scale = _scale(high - low, 255, kind)
        return cls(1.0, 0) if scale is None else cls(scale, min(max(round(-128 - low / scale), -128), 127))

    @classmethod
    def symmetric(cls, reach: float, kind: ScaleKind = "real") -> Affine:
        """Return the int8 parameters with the zero point 0 whose codes reach ``reach`` to both sides.

        >>> Affine.symmetric(100.0, "power_of_two")
        Affine(scale=1.0, zero_point=0, bits=8)
        """
        return cls(_scale(reach, 127, kind) or 1.0, 0)

    @classmethod
    def _symmetric(cls, low: float, high: float, kind: ScaleKind, bits: int) -> Affine:
        """Return the parameters with the zero point 0 whose codes reach from ``low`` to ``high``, hardly farther."""
        widest = cls(1.0, 0, bits)
        side, steps = (-low, -widest.low) if -low * widest.high > high * -widest.low else (high, widest.high)
        return cls(_scale(max(side, 0.0), steps, kind) or 1.0, 0, bits)

    @property
    def span(self) -> tuple[float, float]:
        """The real values of the smallest and the largest code: `from_range` of them gives these parameters again."""
        return (self.low - self.zero_point) * self.scale, (self.high - self.zero_point) * self.scale

    def quantize(self, values: Tensor) -> Tensor:
        """Return the codes of real values of any shape, as float32."""
        return (round_half_away(values / self.scale) + self.zero_point).clamp(self.low, self.high)

    def dequantize(self, codes: Tensor) -> Tensor:
        """Return the real values of codes of any shape."""
        return (codes - self.zero_point) * self.scale


@dataclass(frozen=True)
class QuantizedWeights:
    """Symmetric integer weights.

    Attributes:
        codes: int8, the shape of the weights.
        scales: float32, shape (groups,); each belongs to an equal number of consecutive rows (axis 0).
        bits: bits that the codes need.
        axis: the axis of the channels where there is more than one scale.
        container: what the file stores them in.
    """

    codes: NDArray[np.int8]
    scales: NDArray[np.float32]
    bits: int
    axis: int = 0
    container: Container = "int8"

    @property
    def reaches(self) -> NDArray[np.int16]:
        """The largest magnitude of each output channel's codes, shape (channels,)."""
        found: NDArray[np.int16] = np.abs(self.codes.astype(np.int16)).reshape(len(self.codes), -1).max(axis=1)
        return found

    @classmethod
    def from_float(
        cls,
        weights: Tensor,
        bits: int,
        *,
        groups: int = 1,
        kind: ScaleKind = "real",
        bias: Tensor | None = None,
        source: Affine | None = None,
    ) -> QuantizedWeights:
        """Quantize weights by their largest magnitude, over all of them or by groups of output channels (axis 0).

        Codes reach from -(2^(bits-1) - 1) to 2^(bits-1) - 1, as the kernels demand of int8 weights. Weights that
        are (nearly) zero get a scale at which the bias still fits into its codes.

        Args:
            weights: shape (channels, ...), output channels in front.
            bits: of a weight.
            groups: scales; each belongs to an equal number of consecutive output channels.
            kind: which scales there are; powers of two are the next larger ones.
            bias: shape (channels,), stored in steps of input scale x weight scale; None where there is none.
            source: parameters of the weights' inputs; given with a bias.
        """
        top = (1 << (bits - 1)) - 1
        array = weights.detach().to(torch.float64).numpy()
        scales = np.abs(array).reshape(groups, -1).max(axis=1) / top
        if bias is not None and source is not None:
            largest = np.abs(bias.detach().to(torch.float64).numpy()).reshape(groups, -1).max(axis=1)
            scales = np.maximum(scales, largest / (BIAS_REACH[source.bits] * source.scale))
        scales = np.where(scales >= SMALLEST_NORMAL, scales, 1.0)
        scales = (next_power_of_two(scales) if kind == "power_of_two" else scales).astype(np.float32)
        steps = _by_row(scales, array).astype(np.float64)
        codes = np.clip(np.rint(array / steps), -top, top).astype(np.int8)
        return cls(codes, scales, bits)

    @property
    def groups(self) -> int:
        """How many scales there are."""
        return len(self.scales)

    def stored_in(self, container: Container) -> QuantizedWeights:
        """Return the same in another container; in int8 where they need more bits than it has."""
        return replace(self, container=container if self.bits <= CONTAINER_BITS[container] else "int8")

    def split(self) -> tuple[QuantizedWeights, ...]:
        """Return the weights of each scale by themselves."""
        parts = zip(np.split(self.codes, self.groups), np.split(self.scales, self.groups), strict=True)
        return tuple(QuantizedWeights(codes, scales, self.bits) for codes, scales in parts)

    def as_tensor(self) -> Tensor:
        """Return the codes as a float32 tensor of the same shape."""
        return torch.from_numpy(self.codes.astype(np.float32))

    def dequantize(self) -> Tensor:
        """Return the real values that the codes stand for, float32, of the same shape."""
        return torch.from_numpy(self.codes.astype(np.float32) * _by_row(self.scales, self.codes))

    def quantize_bias(self, bias: Tensor, source: Affine) -> BiasCodes:
        """Return biases in steps of input scale x weight scale, the unit of the accumulator, and of its type.

        Args:
            bias: real values, shape (channels,).
            source: parameters of the weights' inputs: int32 beside codes of 8 bits, int64 beside those of 16.
        """
        steps = self.scales.astype(np.float64) * np.float64(np.float32(source.scale))
        codes = np.rint(bias.detach().to(torch.float64).numpy() / steps)
        if source.wide:
            return codes.astype(np.int64)
        return np.clip(codes, -(2**31), 2**31 - 1).astype(np.int32)


def _by_row(scales: NDArray[np.float32], rows: NDArray[Any]) -> NDArray[np.float32]:
    """Return the scale of every row, shape (rows, 1, ...), which multiplies the rows."""
    return np.repeat(scales, len(rows) // len(scales)).reshape(-1, *[1] * (rows.ndim - 1))
