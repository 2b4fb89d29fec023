"""What fast kernels are made of: constants prepared once, then one compiled pass over memory.

The arithmetic is that of the integer kernels, rounding by rounding; what is given up is the guarantee that no sum of
products is rounded, for float32 holds whole numbers up to 2^24 only. No network here has reached that.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from qanas.quantization.numbers.affine import Affine, BiasCodes
from qanas.quantization.numbers.requantization import EXACT_IN_FLOAT32, FixedPoint, largest_sum
from qanas.quantization.numbers.rounding import AWAY

FastKernel = Callable[..., Tensor]
"""An operator prepared for many calls in fast arithmetic.

From steps to steps, float32, shape (batch, *shape): codes less their zero point, so that 0 is 0 and padding as well.
Arguments stay as they are; the result may be a view of them.
"""

HALF = 256
"""Steps of 16 bits are that many times one half, and the other."""

PERIOD = 64
"""Channels that an inner loop takes at least: constants of fewer are repeated."""


def fine_step_of(factors: FixedPoint) -> NDArray[np.float64]:
    """Return the fine grid's step in whole ones, shape (channels,) or (), nudged so that ties go away from zero."""
    return factors.after.numpy() * AWAY


def factor_of(factors: FixedPoint) -> NDArray[np.float64]:
    """Return what brings whole numbers to the fine grid, shape (channels,) or ()."""
    product: NDArray[np.float64] = (factors.multipliers * factors.before).numpy()
    return product


def requantization(
    factors: FixedPoint, bias: BiasCodes | int, bounds: tuple[float, float]
) -> Callable[[Tensor], Tensor]:
    """Return what turns sums of products, channels last, into steps of the output; it may change its argument.

    Args:
        factors: a scalar or one a channel.
        bias: in units of the sums, one a channel.
        bounds: the lowest and the highest step.
    """
    from qanas.quantization.simulation import compiled

    to_fine, fine_step, codes = np.broadcast_arrays(np.atleast_1d(factor_of(factors)), fine_step_of(factors), bias)
    times = math.ceil(PERIOD / len(to_fine))
    columns = (to_fine, codes * to_fine + 0.5, fine_step)
    repeated, offsets, fine_steps = (np.tile(values, times) for values in columns)
    low, high = bounds

    def requantize(sums: Tensor) -> Tensor:
        flat = sums.contiguous()
        compiled.requantize(flat.view(-1).numpy(), repeated, offsets, fine_steps, low, high)
        return flat

    return requantize


def wide_requantization(
    factors: FixedPoint, bias: BiasCodes, bounds: tuple[float, float]
) -> Callable[[Tensor, Tensor], Tensor]:
    """Return what turns sums of products with both `halves` into steps of the output, as `requantization` does."""
    from qanas.quantization.simulation import compiled

    to_steps, codes = np.broadcast_arrays(np.atleast_1d(factor_of(factors)), bias)
    times = math.ceil(PERIOD / len(to_steps))
    repeated, offsets = (np.tile(values, times) for values in (to_steps, codes * to_steps + 0.5))
    low, high = bounds

    def requantize(upper: Tensor, lower: Tensor) -> Tensor:
        flat, other = upper.contiguous(), lower.contiguous()
        compiled.requantize_halves(flat.view(-1).numpy(), other.view(-1).numpy(), repeated, offsets, low, high)
        return flat

    return requantize


def halves(steps: Tensor) -> tuple[Tensor, Tensor]:
    """Return steps of 16 bits, any shape, as ``256 * upper + lower``, lower 0 to 255: sums of either fit float32."""
    upper = torch.floor(steps / HALF)
    return upper, steps - HALF * upper


def fit_float32_by_halves(weights: Tensor) -> bool:
    """Tell whether sums of products of weights, shape (out, ...), with `halves` are exact in float32."""
    return largest_sum(weights, HALF - 1) < EXACT_IN_FLOAT32


def quantization(affine: Affine) -> FastKernel:
    """Return what turns real values into steps."""
    from qanas.quantization.simulation import compiled

    low, high = affine.low - affine.zero_point, affine.high - affine.zero_point

    def kernel(values: Tensor) -> Tensor:
        steps = values.clone(memory_format=torch.contiguous_format)
        compiled.quantize(steps.view(-1).numpy(), affine.scale, low, high)
        return steps

    return kernel


def tabulated(codes_of: Callable[[Tensor], Tensor], source: Affine, output: Affine) -> FastKernel:
    """Return the kernel of a function of one code, element by element, from its values for every code."""
    from qanas.quantization.simulation import compiled

    every_code = torch.arange(source.low, source.high + 1, dtype=torch.float32)
    table = (codes_of(every_code) - output.zero_point).numpy()
    offset = source.zero_point - source.low

    def kernel(*steps: Tensor) -> Tensor:
        flat = steps[0].contiguous()
        found = torch.empty_like(flat)
        compiled.look_up(flat.view(-1).numpy(), table, offset, found.view(-1).numpy())
        return found

    return kernel
