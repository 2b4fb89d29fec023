"""Comparisons, as values of 0 and 1 that are looked up, and what is made of such values."""

from __future__ import annotations

import operator
from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor

from qanas.quantization.operators.float_terms import COMPARISONS, X
from qanas.quantization.operators.tables import TabulatedFunction
from qanas.quantization.tracing.builder import Builder, Translator, Translators
from qanas.quantization.tracing.functions import absolute, maximum
from qanas.quantization.tracing.pointwise import Operand, multiply, negated, subtract
from qanas.quantization.tracing.values import Value

Comparison = Callable[[Tensor, float], Tensor]

OPPOSITE: dict[Comparison, Comparison] = {
    torch.gt: torch.lt,
    torch.ge: torch.le,
    torch.lt: torch.gt,
    torch.le: torch.ge,
    torch.eq: torch.eq,
    torch.ne: torch.ne,
}
"""What says the same with both sides in each other's place."""

EQUALITIES = {torch.eq, torch.ne}


def comparison(compare: Comparison) -> Translator:
    """Return the translator of a comparison: 1 where it holds and 0 elsewhere, exactly, for every code there is."""

    def translate(builder: Builder, one: Operand, other: Operand | None, /) -> Value | bool:
        if other is None:  # a value is there: only an argument that nobody gave equals None
            return compare is torch.ne
        if not isinstance(one, Value):
            return comparison(OPPOSITE[compare])(builder, other, one)  # type: ignore[no-any-return]
        if isinstance(other, Value) or torch.as_tensor(other).numel() > 1:
            one, other = subtract(builder, one, other), 0.0
        bound = float(other)
        if compare in EQUALITIES and bound != 0.0:
            raise ValueError(f"a comparison with exactly {bound:g}, which codes may miss; take >= and <= around it")
        in_float = COMPARISONS[compare.__name__](X, bound)
        return builder.unary(TabulatedFunction("a comparison", partial(_holds, compare, bound), in_float), one)

    return translate


def _holds(compare: Comparison, bound: float, values: Tensor) -> Tensor:
    return compare(values, bound).to(torch.float32)


def either_alone(builder: Builder, one: Operand, other: Operand, /) -> Value:
    """Take where one of two conditions holds, but not both."""
    return absolute(builder, subtract(builder, one, other))


TRANSLATORS = Translators(
    functions={
        **{
            target: comparison(compare)
            for name, compare in (
                ("gt", torch.gt),
                ("ge", torch.ge),
                ("lt", torch.lt),
                ("le", torch.le),
                ("eq", torch.eq),
                ("ne", torch.ne),
            )
            for target in (compare, getattr(operator, name), name)
        },
        **dict.fromkeys((torch.logical_and, torch.bitwise_and, operator.and_, "logical_and"), multiply),
        **dict.fromkeys((torch.logical_or, torch.bitwise_or, operator.or_, "logical_or"), maximum),
        **dict.fromkeys((torch.logical_xor, torch.bitwise_xor, operator.xor, "logical_xor"), either_alone),
        **dict.fromkeys((torch.logical_not, torch.bitwise_not, operator.invert, "logical_not"), negated),
    },
    modules={},
)
