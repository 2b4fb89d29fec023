"""Hard swish, in the kernel's 16-bit fixed point (Howard et al. 2019, "Searching for MobileNetV3", section 5.2)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import numpy as np
import torch.nn.functional as F  # noqa: N812 - torch's own idiom
from numpy.typing import NDArray
from torch import Tensor

from qanas.quantization.affine import Affine
from qanas.quantization.fixed_point_functions import Codes, Word, halve, multiplier_and_power
from qanas.quantization.operators.base import Ranges
from qanas.quantization.operators.lookup import ElementwiseFunction, steps_from_zero
from qanas.quantization.operators.requantize import float32_factor
from qanas.quantization.program import DType

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
        """Compute in float32."""
        return F.hardswish(inputs[0])

    def output_affine(self, source: Affine, ranges: Ranges) -> Affine:
        """Return the parameters of the output's range, the scale no finer than the kernel allows."""
        output = Affine.from_range(*ranges.output)
        finest = float(np.float32(source.scale / 2**FINE_BITS / LARGEST_OUTPUT_FACTOR))
        return output if output.scale >= finest else replace(output, scale=finest)

    def table(self, source: Affine, output: Affine) -> NDArray[Any]:
        """Compute as the kernel does: x on the output's scale times (x + 3) / 6 in Q0.15."""
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
