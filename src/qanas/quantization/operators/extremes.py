"""Smallest and largest values: over axes, of two values, and bounds that values are cut off at."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import ClassVar, Literal

import torch
from torch import Tensor

from qanas.quantization.numbers.affine import Affine
from qanas.quantization.numbers.requantization import with_reachable_scale
from qanas.quantization.operators.arithmetic import repeated_shape
from qanas.quantization.operators.base import Operator, QuantizedOperator, Shape
from qanas.quantization.operators.moves import Move
from qanas.quantization.operators.reductions import reduced_shape
from qanas.quantization.operators.rescaling import QuantizedQuantize, append_quantize, requantized
from qanas.quantization.program import COMMON_VERSIONS, DType, Program, RuntimeOperator, RuntimeTensor
from qanas.quantization.ranges import Ranges
from qanas.quantization.scheme import Scheme, UnsupportedSchemeError
from qanas.quantization.simulation.fast import FastKernel, tabulated

Side = Literal["largest", "smallest"]


@dataclass(frozen=True)
class Extreme(Move):
    """The largest or the smallest value over some axes: one of those that are there, whose parameters stay.

    Attributes:
        side: which.
        axes: of the sample, counted from 0.
        keeps_axes: whether they stay, with size 1.
    """

    side: Side
    axes: tuple[int, ...]
    keeps_axes: bool = field(default=False, kw_only=True)

    version = 2

    @property
    def kind(self) -> str:  # type: ignore[override]
        """The builtin operator."""
        return "REDUCE_MAX" if self.side == "largest" else "REDUCE_MIN"

    @property
    def options(self) -> Mapping[str, int]:
        """Return what becomes of the axes."""
        return {"keepDims": self.keeps_axes}

    def output_shape(self, *inputs: Shape) -> Shape:
        """Return the shape without the axes, or with size 1 there."""
        return reduced_shape(inputs[0], self.axes, keeps_axes=self.keeps_axes)

    def forward(self, *inputs: Tensor) -> Tensor:
        """Compute on shape (batch, *shape); codes and real values alike."""
        reduce = torch.amax if self.side == "largest" else torch.amin
        return reduce(inputs[0], tuple(axis + 1 for axis in self.axes), keepdim=self.keeps_axes)

    def arguments(self, program: Program, output: RuntimeTensor) -> Sequence[RuntimeTensor]:
        """Return the axes."""
        del output
        return (program.indices([axis + 1 for axis in self.axes]),)


@dataclass(frozen=True)
class ExtremeOfTwo(Operator):
    """The larger or the smaller of two values, which are repeated along axes of size 1.

    Attributes:
        side: which.
    """

    side: Side

    versions: ClassVar[Mapping[DType, int]] = {"float32": 1, "int8": 2, "int16": 4}

    @property
    def kind(self) -> str:
        """The builtin operator."""
        return "MAXIMUM" if self.side == "largest" else "MINIMUM"

    def output_shape(self, *inputs: Shape) -> Shape:
        """Return the shape in which every axis has the larger of both sizes."""
        return repeated_shape(f"{self.side} one", *inputs)

    def forward(self, *inputs: Tensor) -> Tensor:
        """Compute on two values whose shape differs in axes of size 1; codes of one scale and real values alike."""
        return (torch.maximum if self.side == "largest" else torch.minimum)(*inputs)

    def quantize(self, inputs: Sequence[Affine], ranges: Ranges, scheme: Scheme) -> tuple[QuantizedOperator, Affine]:
        """Bring both inputs to the output's parameters: the kernel rescales nothing."""
        output = Affine.from_range(*ranges.output, bits=scheme.activation_bits)
        output = with_reachable_scale(output, max(affine.scale for affine in inputs))
        return QuantizedExtremeOfTwo(self, tuple(inputs), output), output

    def lower(self, program: Program, inputs: Sequence[RuntimeTensor], output: RuntimeTensor) -> None:
        """Append the operator; the same for codes of one scale and real values."""
        program.append(RuntimeOperator(self.kind, self.versions[output.dtype], inputs, [output]))


@dataclass(frozen=True)
class QuantizedExtremeOfTwo(QuantizedOperator):
    """The larger or the smaller of two codes.

    Attributes:
        extreme: which.
        inputs: parameters of the inputs' codes.
        output: parameters of the output's codes.
    """

    extreme: ExtremeOfTwo
    inputs: tuple[Affine, ...]
    output: Affine

    def forward(self, *codes: Tensor) -> Tensor:
        """Rescale and compare codes whose shape differs in axes of size 1."""
        pairs = zip(codes, self.inputs, strict=True)
        return self.extreme.forward(*(requantized(part, affine, self.output) for part, affine in pairs))

    def fast_kernel(self, inputs: Sequence[Affine], output: Affine) -> FastKernel:
        """Rescale by tables."""
        rescale = [
            tabulated(partial(requantized, source=affine, output=self.output), affine, output) for affine in inputs
        ]
        return lambda *steps: self.extreme.forward(*(by(part) for by, part in zip(rescale, steps, strict=True)))

    def lower(self, program: Program, inputs: Sequence[RuntimeTensor], output: RuntimeTensor) -> None:
        """Append a QUANTIZE for each input and the integer operator."""
        parts = [RuntimeTensor(source.shape, source.dtype, output.quantization) for source in inputs]
        for source, part in zip(inputs, parts, strict=True):
            append_quantize(program, source, part)
        self.extreme.lower(program, parts, output)


@dataclass(frozen=True)
class Clamp(Operator):
    """``min(max(x, low), high)`` for bounds on either side of 0, or at it.

    Codes that end at the bounds do it by saturation: a change of scale is all that is left.

    Attributes:
        low: the smallest value, 0 or less; -inf where there is none.
        high: the largest value, 0 or more; inf where there is none.
    """

    parameters_from = "kernel"
    activation_bits = (8,)

    low: float
    high: float

    def __post_init__(self) -> None:
        """Refuse bounds that codes, which have a 0, can't end at."""
        if not self.low <= 0.0 <= self.high:
            raise ValueError(f"a clamp from {self.low} to {self.high}; 0 must not be outside")

    def output_shape(self, *inputs: Shape) -> Shape:
        """Return the input's shape."""
        return inputs[0]

    def forward(self, *inputs: Tensor) -> Tensor:
        """Compute in float32, shape (batch, *shape)."""
        return inputs[0].clamp(self.low, self.high)

    def quantize(self, inputs: Sequence[Affine], ranges: Ranges, scheme: Scheme) -> tuple[QuantizedOperator, Affine]:
        """End the codes at the bounds, or before them where no value comes near.

        Raises:
            UnsupportedSchemeError: a scheme that lets no codes end anywhere.
        """
        if scheme.activations != "asymmetric" or scheme.scales != "real":
            raise UnsupportedSchemeError(
                f"a clamp from {self.low:g} to {self.high:g} with activations = {scheme.activations!r} and scales = "
                f"{scheme.scales!r}; take a ReLU or a ReLU6, or another scheme for this layer"
            )
        low, high = ranges.output
        output = Affine.from_range(max(low, self.low), min(high, self.high))
        output = with_reachable_scale(output, inputs[0].scale)
        return QuantizedClamp(inputs[0], output), output

    def lower(self, program: Program, inputs: Sequence[RuntimeTensor], output: RuntimeTensor) -> None:
        """Append the float32 operators."""
        source = inputs[0]
        bounds = [
            (kind, bound) for kind, bound in (("MAXIMUM", self.low), ("MINIMUM", self.high)) if math.isfinite(bound)
        ]
        for kind, bound in bounds:
            result = output if (kind, bound) == bounds[-1] else RuntimeTensor(output.shape, output.dtype)
            constant = RuntimeTensor.constant(torch.tensor([bound], dtype=torch.float32).numpy())
            program.append(RuntimeOperator(kind, COMMON_VERSIONS["float32"], [source, constant], [result]))
            source = result


class QuantizedClamp(QuantizedQuantize):
    """Codes of other parameters, which end where the values are cut off."""
