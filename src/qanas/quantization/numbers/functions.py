"""Exponential, logistic, tanh and reciprocal as the integer kernels compute them: in fixed point.

Most kernels don't use tables but series and Newton's method (the library gemmlowp). In 16 bits, their results are up to
8 (logistic) and 16 (tanh) steps of 2^-15 off the true functions, always to the same side for the same code. In a
recurrent network that has learnt long memories such an error adds up over the steps, to tens of output steps: a
simulation with the true functions is not one of the network that ships. The LSTM's kernel uses words of 16 bits, that
of softmax words of 32. Kernels of 16 bits interpolate between the entries of tables of 512 intervals instead.

Q m.n is a signed number with m integer and n fraction bits.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from qanas.quantization.numbers.rounding import halve, round_half_away_array

Codes = NDArray[np.int64]

GATE_INTEGER_BITS = 3

# Constants of gemmlowp in Q0.31, except where said.
EXP_MINUS_EIGHTH = 1895147668
ONE_THIRD = 715827883
NEWTON_START, NEWTON_SLOPE = 1515870810, -1010580540  # 48/17 and -32/17 in Q2.29
EXP_OF_MINUS_POWER = {-2: 1672461947, -1: 1302514674, 0: 790015084, 1: 290630308, 2: 39332535, 3: 720401, 4: 242}
"""exp(-2^n) by n."""

CONSTANT_BITS = 32

UNDERFLOW_BITS = 5
"""Beyond -2^5 the exponential is 0."""


def multiplier_and_power(factor: float) -> tuple[int, int]:
    """Return a positive factor as a multiplier in Q0.31, at least a half, and a power of two."""
    mantissa, power = np.frexp(factor)
    multiplier = int(np.floor(mantissa * 2.0**31 + 0.5))
    # A mantissa that is rounded up to 1 is brought back under it.
    return (multiplier >> 1, int(power) + 1) if multiplier == 1 << 31 else (multiplier, int(power))


@dataclass(frozen=True)
class Word:
    """Fixed-point arithmetic in signed words.

    Attributes:
        bits: of a word, 16 or 32; products must fit 64.
    """

    bits: int

    @property
    def low(self) -> int:
        """The smallest number."""
        return -(1 << (self.bits - 1))

    @property
    def high(self) -> int:
        """The largest number; in Q0 it stands for 1."""
        return (1 << (self.bits - 1)) - 1

    def constant(self, value: int) -> int:
        """Return a 32-bit constant in these words, rounded."""
        dropped = CONSTANT_BITS - self.bits
        return (value + (1 << dropped >> 1)) >> dropped

    def saturate(self, values: Codes) -> Codes:
        """Clip to the words' range, any shape."""
        return np.clip(values, self.low, self.high)

    def multiply(self, left: Codes, right: Codes | int) -> Codes:
        """Return the rounded product of two numbers in Q0, or of one in Q0 and one in Qm, of any shape that fits."""
        product = left * right
        half = 1 << (self.bits - 2)
        magnitude = (np.abs(product) + half) >> (self.bits - 1)
        # The nudge of negative products is one less: exact ties go up.
        negative = (np.abs(product) + half - 1) >> (self.bits - 1)
        return self.saturate(np.where(product >= 0, magnitude, -negative))

    def double(self, values: Codes, times: int) -> Codes:
        """Multiply by 2^times, saturated, any shape."""
        return self.saturate(values << times)

    def exp_of_negative(self, values: Codes, integer_bits: int) -> Codes:
        """exp(x), any shape, for x <= 0 with some integer bits, as Q0: above -1/4 by series, the rest bit by bit."""
        fraction_bits = self.bits - 1 - integer_bits
        quarter = 1 << (fraction_bits - 2)
        near = (values & (quarter - 1)) - quarter
        result = self._exp_near_zero(near << integer_bits)
        rest = near - values
        for power, constant in EXP_OF_MINUS_POWER.items():
            if power < integer_bits:
                has_bit = (rest >> (fraction_bits + power)) & 1
                result = np.where(has_bit == 1, self.multiply(result, self.constant(constant)), result)
        if integer_bits > UNDERFLOW_BITS:
            result = np.where(values < -(1 << (fraction_bits + UNDERFLOW_BITS)), 0, result)
        return np.where(values == 0, self.high, result)

    def _exp_near_zero(self, values: Codes) -> Codes:
        """exp(x), any shape, for x in [-1/4, 0), Q0: exp(-1/8) times a Taylor series of fourth order around -1/8."""
        x = values + (1 << (self.bits - 4))
        x2 = self.multiply(x, x)
        x3, x4 = self.multiply(x2, x), self.multiply(x2, x2)
        tail = halve(self.multiply(halve(x4, 2) + x3, self.constant(ONE_THIRD)) + x2, 1)
        factor = self.constant(EXP_MINUS_EIGHTH)
        return self.saturate(factor + self.multiply(x + tail, factor))

    def two_over_one_plus(self, values: Codes) -> Codes:
        """2 / (1 + x), any shape, for x in [0, 1): Q0 to Q2, three steps of Newton's method."""
        half_denominator = (values + self.high + 1) >> 1
        x = self.constant(NEWTON_START) + self.multiply(half_denominator, self.constant(NEWTON_SLOPE))
        for _ in range(3):
            remainder = (1 << (self.bits - 3)) - self.multiply(half_denominator, x)
            x = x + self.double(self.multiply(x, remainder), 2)
        return x

    def one_over_one_plus(self, values: Codes) -> Codes:
        """1 / (1 + x), any shape, for x in [0, 1), Q0 to Q0."""
        # 2 / (1 + x) in Q2 is 1 / (1 + x) in Q1.
        return self.double(self.two_over_one_plus(values), 1)


GATE = Word(16)
ALL_GATE_CODES: Codes = np.arange(GATE.low, GATE.high + 1, dtype=np.int64)


@cache
def logistic_table() -> Tensor:
    """Return the logistic function of every gate code (Q3.12) in Q0.15, float32, shape (2^16,), index = code + 2^15."""
    positive = GATE.one_over_one_plus(GATE.exp_of_negative(-np.abs(ALL_GATE_CODES), GATE_INTEGER_BITS))
    result = np.where(ALL_GATE_CODES > 0, positive, GATE.high - positive)
    return _table(np.where(ALL_GATE_CODES == 0, 1 << 14, result))


@cache
def tanh_table(integer_bits: int) -> Tensor:
    """Return tanh of every code with 0 to 6 integer bits in Q0.15, float32, shape (2^16,), index = code + 2^15."""
    # tanh(x) = 2 / (1 + exp(-2 x)) - 1; one more integer bit doubles the argument.
    doubled = GATE.exp_of_negative(-np.abs(ALL_GATE_CODES), integer_bits + 1)
    magnitude = GATE.double(GATE.two_over_one_plus(doubled) - (1 << 13), 2)
    return _table(np.sign(ALL_GATE_CODES) * magnitude)


def _table(values: Codes) -> Tensor:
    return torch.from_numpy(values.astype(np.float32))


def look_up(table: Tensor, codes: Tensor) -> Tensor:
    """Return the entries of a table of shape (2^16,) for int16 codes in float32, any shape."""
    return table.take((codes - GATE.low).to(torch.int64))


LOWEST_WORD, HIGHEST_WORD = -(1 << 15), (1 << 15) - 1

INTERVALS = 512
"""Of a table; each takes 2^7 codes."""

INTERVAL_BITS = 7

Reals = NDArray[np.float64]


def interpolation_table(function: Callable[[Reals], Reals], low: float, high: float) -> Codes:
    """Return a function at the ends of 512 intervals in Q0.15, shape (513,), moved: middles are off by half as much."""
    step = (high - low) / INTERVALS
    starts = low + np.arange(INTERVALS, dtype=np.float64) * step
    first, middle, last = (function(starts + part * step) * 32768.0 for part in (0.0, 0.5, 1.0))
    excess = round_half_away_array((last + round_half_away_array(first)) / 2.0) - round_half_away_array(middle)
    values: Reals = np.append(
        round_half_away_array(first) - round_half_away_array(excess / 2.0),
        round_half_away_array(function(np.array([high])) * 32768.0),
    )
    return np.clip(values, LOWEST_WORD, HIGHEST_WORD).astype(np.int64)


def interpolate(table: Codes, codes: Codes) -> Codes:
    """Return the function of a table of shape (513,) at codes of any shape."""
    interval = (codes >> INTERVAL_BITS) + INTERVALS // 2
    slope = table[interval + 1] - table[interval]
    within = codes & ((1 << INTERVAL_BITS) - 1)
    interpolated: Codes = table[interval] + ((slope * within + (1 << (INTERVAL_BITS - 1))) >> INTERVAL_BITS)
    return interpolated
