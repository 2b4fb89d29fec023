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

WeightBits = Literal[4, 6, 8]
WEIGHT_BITS: tuple[WeightBits, ...] = get_args(WeightBits)

ACTIVATION_BITS = (8,)

Container = Literal["int8", "int4"]
CONTAINER_BITS: Mapping[Container, int] = {"int8": 8, "int4": 4}
"""Types of tensors that a file stores weights in, with their bits; those of 4 hold two weights a byte."""

ScaleKind = Literal["real", "power_of_two"]
"""Which scales there are: any, or whole powers of two, which a device multiplies by shifting."""

BIAS_REACH = 2.0**30
"""The largest code of a bias: half of int32, the rest is left to the sum of products."""


def _scale(width: float, steps: int, kind: ScaleKind) -> float | None:
    """Return the float32 scale at which a number of steps are ``width``; None for (nearly) 0."""
    if not math.isfinite(width):
        raise ValueError(f"a range of width {width} can't be quantized")
    step = width / steps
    scale = float(np.float32(next_power_of_two(np.float64(step)) if kind == "power_of_two" else step))
    return None if scale < np.finfo(np.float32).tiny else scale


def next_power_of_two(values: NDArray[np.float64] | np.float64) -> NDArray[np.float64]:
    """Return the smallest powers of two that are not below positive values.

    >>> next_power_of_two(np.array([0.25, 0.26, 3.0]))
    array([0.25, 0.5 , 4.  ])
    """
    mantissas, exponents = np.frexp(values)
    powers: NDArray[np.float64] = np.ldexp(1.0, np.where(mantissas == 0.5, exponents - 1, exponents))  # noqa: PLR2004
    return powers


def round_half_away(values: Tensor) -> Tensor:
    """Round to the nearest integer, ties away from zero, as the runtimes do (torch rounds ties to even)."""
    return torch.copysign(torch.floor(values.abs() + 0.5), values)


@dataclass(frozen=True)
class Affine:
    """Scale and zero point of an activation.

    Attributes:
        scale: step between two codes, a float32 value.
        zero_point: the code of 0.
        bits: 8 or 16; codes are signed.
    """

    scale: float
    zero_point: int = 0
    bits: int = 8

    @property
    def low(self) -> int:
        """The smallest code."""
        return -(1 << (self.bits - 1))

    @property
    def high(self) -> int:
        """The largest code."""
        return (1 << (self.bits - 1)) - 1

    @classmethod
    def from_range(cls, low: float, high: float, kind: ScaleKind = "real") -> Affine:
        """Return the int8 parameters whose codes reach from ``low`` to ``high``, widened to include 0.

        A range without width (a constant zero) gets the scale 1.

        >>> Affine.from_range(0.0, 255.0)
        Affine(scale=1.0, zero_point=-128, bits=8)
        """
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

    @property
    def span(self) -> tuple[float, float]:
        """The real values of the smallest and the largest code: `from_range` of them gives these parameters again."""
        return (self.low - self.zero_point) * self.scale, (self.high - self.zero_point) * self.scale

    def quantize(self, values: Tensor) -> Tensor:
        """Return the codes of real values, as float32."""
        return (round_half_away(values / self.scale) + self.zero_point).clamp(self.low, self.high)

    def dequantize(self, codes: Tensor) -> Tensor:
        """Return the real values of codes."""
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

    @classmethod
    def from_float(
        cls,
        weights: Tensor,
        bits: int,
        *,
        groups: int = 1,
        kind: ScaleKind = "real",
        bias: Tensor | None = None,
        input_scale: float = 1.0,
    ) -> QuantizedWeights:
        """Quantize weights by their largest magnitude, over all of them or by groups of output channels (axis 0).

        Codes reach from -(2^(bits-1) - 1) to 2^(bits-1) - 1, as the kernels demand of int8 weights. Weights that
        are (nearly) zero get a scale at which the bias still fits into its int32 codes.

        Args:
            weights: output channels in front.
            bits: of a weight.
            groups: scales; each belongs to an equal number of consecutive output channels.
            kind: which scales there are; powers of two are the next larger ones.
            bias: one a channel, stored in steps of input scale x weight scale; None where there is none.
            input_scale: of the weights' inputs.
        """
        top = (1 << (bits - 1)) - 1
        array = weights.detach().to(torch.float64).numpy()
        scales = np.abs(array).reshape(groups, -1).max(axis=1) / top
        if bias is not None:
            largest = np.abs(bias.detach().to(torch.float64).numpy()).reshape(groups, -1).max(axis=1)
            scales = np.maximum(scales, largest / (BIAS_REACH * input_scale))
        scales = np.where(scales >= np.finfo(np.float32).tiny, scales, 1.0)
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
        """Return the codes as a float32 tensor."""
        return torch.from_numpy(self.codes.astype(np.float32))

    def dequantize(self) -> Tensor:
        """Return the real values that the codes stand for, float32."""
        return torch.from_numpy(self.codes.astype(np.float32) * _by_row(self.scales, self.codes))

    def quantize_bias(self, bias: Tensor, input_scale: float) -> NDArray[np.int32]:
        """Return int32 biases in steps of input scale x weight scale, the unit of the accumulator."""
        steps = self.scales.astype(np.float64) * np.float64(np.float32(input_scale))
        codes = np.rint(bias.detach().to(torch.float64).numpy() / steps)
        return np.clip(codes, -(2**31), 2**31 - 1).astype(np.int32)


def _by_row(scales: NDArray[np.float32], rows: NDArray[Any]) -> NDArray[np.float32]:
    """Return the scale of every row, shaped so that it multiplies the rows."""
    return np.repeat(scales, len(rows) // len(scales)).reshape(-1, *[1] * (rows.ndim - 1))
