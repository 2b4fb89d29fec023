"""Logistic and tanh as the integer kernels compute them: 16-bit fixed point, tabulated over every code.

The kernels don't use tables but series and Newton's method (the library gemmlowp); their results are up to 8 (logistic)
and 16 (tanh) steps of 2^-15 off the true functions, always to the same side for the same code. In a recurrent network
that has learnt long memories such an error adds up over the steps, to tens of output steps: a simulation with the true
functions is not one of the network that ships.

Q m.n is a 16-bit number with m integer and n fraction bits.
"""

from __future__ import annotations

from functools import cache

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

Codes = NDArray[np.int64]

LOW, HIGH = -(1 << 15), (1 << 15) - 1
ALL_CODES: Codes = np.arange(LOW, HIGH + 1, dtype=np.int64)

GATE_INTEGER_BITS = 3

# Constants of gemmlowp in Q0.31, except where said.
EXP_MINUS_EIGHTH = 1895147668
ONE_THIRD = 715827883
NEWTON_START, NEWTON_SLOPE = 1515870810, -1010580540  # 48/17 and -32/17 in Q2.29
EXP_OF_MINUS_POWER = {-2: 1672461947, -1: 1302514674, 0: 790015084, 1: 290630308, 2: 39332535, 3: 720401, 4: 242}
"""exp(-2^n) by n."""

UNDERFLOW_BITS = 5
"""Beyond -2^5 the exponential is 0."""


def _narrow(constant: int) -> int:
    """Return a 32-bit constant in 16 bits, rounded."""
    return (constant + (1 << 15)) >> 16


def _saturate(values: Codes) -> Codes:
    return np.clip(values, LOW, HIGH)


def _multiply(left: Codes, right: Codes | int) -> Codes:
    """Return the rounded product of two numbers in Q0.15: (a b + 2^14) / 2^15, away from zero."""
    product = left * right
    magnitude = (np.abs(product) + (1 << 14)) >> 15
    # The nudge of negative products is one less: exact ties go up.
    negative = (np.abs(product) + (1 << 14) - 1) >> 15
    return _saturate(np.where(product >= 0, magnitude, -negative))


def _halve(values: Codes, times: int) -> Codes:
    """Divide by 2^times to the nearest, ties away from zero."""
    rounded: Codes = np.sign(values) * ((np.abs(values) + (1 << (times - 1))) >> times)
    return rounded


def _double(values: Codes, times: int) -> Codes:
    """Multiply by 2^times, saturated."""
    return _saturate(values << times)


def _exp_near_zero(values: Codes) -> Codes:
    """exp(x) for x in [-1/4, 0), Q0.15: exp(-1/8) times a Taylor series of fourth order around -1/8."""
    x = values + (1 << 12)
    x2 = _multiply(x, x)
    x3, x4 = _multiply(x2, x), _multiply(x2, x2)
    tail = _halve(_multiply(_halve(x4, 2) + x3, _narrow(ONE_THIRD)) + x2, 1)
    factor = _narrow(EXP_MINUS_EIGHTH)
    return _saturate(factor + _multiply(x + tail, factor))


def _exp_of_negative(values: Codes, integer_bits: int) -> Codes:
    """exp(x) for x <= 0 with some integer bits, as Q0.15: the part above -1/4 by series, the rest bit by bit."""
    fraction_bits = 15 - integer_bits
    quarter = 1 << (fraction_bits - 2)
    near = (values & (quarter - 1)) - quarter
    result = _exp_near_zero(near << integer_bits)
    rest = near - values
    for power, constant in EXP_OF_MINUS_POWER.items():
        if power < integer_bits:
            has_bit = (rest >> (fraction_bits + power)) & 1
            result = np.where(has_bit == 1, _multiply(result, _narrow(constant)), result)
    if integer_bits > UNDERFLOW_BITS:
        result = np.where(values < -(1 << (fraction_bits + UNDERFLOW_BITS)), 0, result)
    return np.where(values == 0, HIGH, result)


def _two_over_one_plus(values: Codes) -> Codes:
    """2 / (1 + x) for x in [0, 1): Q0.15 to Q2.13, three steps of Newton's method."""
    half_denominator = (values + HIGH + 1) >> 1
    x = _narrow(NEWTON_START) + _multiply(half_denominator, _narrow(NEWTON_SLOPE))
    for _ in range(3):
        remainder = (1 << 13) - _multiply(half_denominator, x)
        x = x + _double(_multiply(x, remainder), 2)
    return x


@cache
def logistic_table() -> Tensor:
    """Return the logistic function of every gate code (Q3.12) in Q0.15, float32, index = code + 2^15."""
    positive = _double(_two_over_one_plus(_exp_of_negative(-np.abs(ALL_CODES), GATE_INTEGER_BITS)), 1)
    result = np.where(ALL_CODES > 0, positive, HIGH - positive)
    return _table(np.where(ALL_CODES == 0, 1 << 14, result))


@cache
def tanh_table(integer_bits: int) -> Tensor:
    """Return tanh of every code with 0 to 6 integer bits in Q0.15, float32, index = code + 2^15."""
    # tanh(x) = 2 / (1 + exp(-2 x)) - 1; one more integer bit doubles the argument.
    doubled = _exp_of_negative(-np.abs(ALL_CODES), integer_bits + 1)
    magnitude = _double(_two_over_one_plus(doubled) - (1 << 13), 2)
    return _table(np.sign(ALL_CODES) * magnitude)


def _table(values: Codes) -> Tensor:
    return torch.from_numpy(values.astype(np.float32))


def look_up(table: Tensor, codes: Tensor) -> Tensor:
    """Return the table's entries for int16 codes in float32."""
    return table.take((codes - LOW).to(torch.int64))
