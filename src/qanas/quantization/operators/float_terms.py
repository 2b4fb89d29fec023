"""Functions of one value in float32: formulas of builtin operators, for what the runtime has no kernel of its own."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from qanas.quantization.program import Program, RuntimeOperator, RuntimeTensor


@dataclass(frozen=True)
class Term:
    """A value that is computed from one input, element by element.

    Attributes:
        kind: of the builtin operator, all in their first version; empty for the input itself.
        operands: of the operator, numbers among them.
        options: names and values of its option table's fields.
    """

    kind: str = ""
    operands: tuple[Term | float, ...] = ()
    options: tuple[tuple[str, int | float | bool], ...] = ()

    def __add__(self, other: Term | float) -> Term:
        return Term("ADD", (self, other))

    __radd__ = __add__

    def __sub__(self, other: Term | float) -> Term:
        return Term("SUB", (self, other))

    def __rsub__(self, other: float) -> Term:
        return Term("SUB", (other, self))

    def __mul__(self, other: Term | float) -> Term:
        return Term("MUL", (self, other))

    __rmul__ = __mul__

    def __neg__(self) -> Term:
        return -1.0 * self

    def __truediv__(self, other: Term | float) -> Term:
        return Term("DIV", (self, other))

    def __rtruediv__(self, other: float) -> Term:
        return Term("DIV", (other, self))

    def __pow__(self, other: float) -> Term:
        return Term("POW", (self, other))

    def __rpow__(self, other: float) -> Term:
        return Term("POW", (other, self))

    def append(self, program: Program, source: RuntimeTensor, output: RuntimeTensor) -> None:
        """Append the operators, each once however often it is used.

        Args:
            program: that they are appended to.
            source: the input.
            output: of the same shape, for the result.
        """
        made: dict[int, RuntimeTensor] = {}

        def tensor_of(operand: Term | float) -> RuntimeTensor:
            if not isinstance(operand, Term):
                return RuntimeTensor.constant(np.full(1, operand, np.float32))
            if not operand.kind:
                return source
            if id(operand) not in made:
                inputs = [tensor_of(one) for one in operand.operands]
                result = output if operand is self else RuntimeTensor(output.shape, output.dtype)
                program.append(RuntimeOperator(operand.kind, 1, inputs, [result], dict(operand.options)))
                made[id(operand)] = result
            return made[id(operand)]

        tensor_of(self)


X = Term()
"""The input."""

Formula = Callable[..., Term]
"""Returns the term of a function of torch, for the same arguments behind the input."""


def unary(kind: str) -> Formula:
    """Return the formula of what the runtime has a kernel of."""

    def formula(x: Term) -> Term:
        return Term(kind, (x,))

    return formula


exp, log, sqrt, rsqrt, sin, cos = map(unary, ("EXP", "LOG", "SQRT", "RSQRT", "SIN", "COS"))
tanh, relu, absolute, sign, floor = map(unary, ("TANH", "RELU", "ABS", "SIGN", "FLOOR"))


def below(x: Term) -> Term:
    """Return ``min(x, 0)``."""
    return Term("MINIMUM", (x, 0.0))


def inverse_norm(squares: Term, eps: float) -> Term:
    """Return one over the root of a sum of squares, which counts as ``eps`` at least."""
    return 1.0 / Term("MAXIMUM", (sqrt(relu(squares)), eps))


def angle(y: Term, x: Term) -> Term:
    """Return the angle of the point (x, y); the kernel repeats no axis, so that x is no number."""
    return Term("ATAN2", (y, x))


def gelu(x: Term, approximate: str = "none") -> Term:
    """Return GELU, or its approximation by tanh."""
    return Term("GELU", (x,), (("approximate", True),) if approximate == "tanh" else ())


def elu(x: Term, alpha: float = 1.0) -> Term:
    """Return ELU, of which LiteRT's reference kernels have none."""
    return relu(x) + alpha * (exp(below(x)) - 1.0)


def celu(x: Term, alpha: float = 1.0) -> Term:
    """Return CELU."""
    return relu(x) + alpha * (exp((1.0 / alpha) * below(x)) - 1.0)


def selu(x: Term) -> Term:
    """Return SELU, by torch's constants."""
    return 1.0507009873554805 * elu(x, 1.6732632423543772)


def softplus(x: Term, beta: float = 1.0, threshold: float = 20.0) -> Term:
    """Return Softplus; beyond the threshold, where torch gives x itself, it is x to the last digit as well."""
    del threshold
    scaled = beta * x if beta != 1.0 else x
    found = log(1.0 + exp(-absolute(scaled))) + relu(scaled)
    return (1.0 / beta) * found if beta != 1.0 else found


def mish(x: Term) -> Term:
    """Return Mish."""
    return x * tanh(softplus(x))


def threshold(x: Term, threshold: float, value: float) -> Term:
    """Return x above a threshold, elsewhere a value."""
    above = relu(sign(x - threshold))
    return above * x + value * (1.0 - above)


def softshrink(x: Term, lambd: float = 0.5) -> Term:
    """Return Softshrink."""
    return relu(x - lambd) - relu(-x - lambd)


def hardshrink(x: Term, lambd: float = 0.5) -> Term:
    """Return Hardshrink."""
    return x * sign(relu(absolute(x) - lambd))


def truncated(x: Term) -> Term:
    """Return the whole number next to x on the side of 0."""
    return sign(x) * floor(absolute(x))


def rounded(x: Term) -> Term:
    """Return the nearest whole number, of two as near the even one."""
    above = floor(x + 0.5)
    tie = COMPARISONS["eq"](above - x, 0.5)
    odd = 2.0 * (0.5 * above - floor(0.5 * above))
    return above - tie * odd


def erf(x: Term) -> Term:
    """Return the integral of the bell curve, taken from GELU, which is half of its argument times one more than it."""
    apart = math.sqrt(2.0) * x + 1e-10 * COMPARISONS["eq"](x, 0.0)
    return 2.0 * (gelu(apart) / apart) - 1.0


def sinc(x: Term) -> Term:
    """Return ``sin(pi x) / (pi x)``, 1 at 0."""
    at_zero, scaled = COMPARISONS["eq"](x, 0.0), math.pi * x
    return (sin(scaled) + at_zero) / (scaled + at_zero)


def of_two_exponentials(x: Term, side: float) -> Term:
    """Return the hyperbolic cosine, or the sine for the side -1."""
    return 0.5 * (exp(x) + side * exp(-x))


FORMULAS: Mapping[str, Formula] = {
    "exp": exp,
    "log": log,
    "sqrt": sqrt,
    "rsqrt": rsqrt,
    "sin": sin,
    "cos": cos,
    "expm1": lambda x: exp(x) - 1.0,
    "log1p": lambda x: log(1.0 + x),
    "log2": lambda x: (1.0 / math.log(2.0)) * log(x),
    "log10": lambda x: (1.0 / math.log(10.0)) * log(x),
    "exp2": lambda x: exp(math.log(2.0) * x),
    "logit": lambda x: log(x / (1.0 - x)),
    "reciprocal": lambda x: 1.0 / x,
    "tan": lambda x: sin(x) / cos(x),
    "asin": lambda x: angle(x, sqrt(1.0 - x * x)),
    "acos": lambda x: angle(sqrt(1.0 - x * x), x),
    "atan": lambda x: angle(x, 1.0 + 0.0 * x),
    "sinh": lambda x: of_two_exponentials(x, -1.0),
    "cosh": lambda x: of_two_exponentials(x, 1.0),
    "asinh": lambda x: sign(x) * log(absolute(x) + sqrt(x * x + 1.0)),
    "acosh": lambda x: log(x + sqrt(x * x - 1.0)),
    "atanh": lambda x: 0.5 * log((1.0 + x) / (1.0 - x)),
    "erf": erf,
    "erfc": lambda x: 1.0 - erf(x),
    "sinc": sinc,
    "deg2rad": lambda x: math.pi / 180.0 * x,
    "rad2deg": lambda x: 180.0 / math.pi * x,
    "sign": sign,
    "sgn": sign,
    "floor": floor,
    "ceil": lambda x: -floor(-x),
    "round": rounded,
    "trunc": truncated,
    "frac": lambda x: x - truncated(x),
}
"""By the names of torch's functions, for calls without further arguments."""

COMPARISONS: Mapping[str, Callable[[Term, float], Term]] = {
    "gt": lambda x, bound: relu(sign(x - bound)),
    "lt": lambda x, bound: relu(sign(bound - x)),
    "ge": lambda x, bound: 1.0 - relu(sign(bound - x)),
    "le": lambda x, bound: 1.0 - relu(sign(x - bound)),
    "eq": lambda x, bound: 1.0 - absolute(sign(x - bound)),
    "ne": lambda x, bound: absolute(sign(x - bound)),
}
"""1 where one holds, else 0; by the names of torch's functions."""


def term_of(formula: Formula | None, *arguments: Any, **settings: Any) -> Term | None:  # noqa: ANN401 - as torch's
    """Return the term of a formula for its arguments; None where there is no formula, or none with such arguments."""
    if formula is None:
        return None
    try:
        return formula(X, *arguments, **settings)
    except TypeError:
        return None
