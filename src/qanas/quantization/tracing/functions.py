"""Functions of single values, softmaxes, and bounds."""

from __future__ import annotations

import math
import operator
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, TypeGuard

import torch
import torch.nn.functional as F  # noqa: N812 - torch's own idiom
from torch import Tensor, nn

from qanas.quantization.numbers.requantization import BOUNDS
from qanas.quantization.operators import float_terms
from qanas.quantization.operators.extremes import Clamp, ExtremeOfTwo
from qanas.quantization.operators.float_terms import FORMULAS, Formula, term_of
from qanas.quantization.operators.functions import Absolute, HardSwish, LeakyReLU, Logistic, Tanh
from qanas.quantization.operators.log_softmax import LogSoftmax
from qanas.quantization.operators.prelu import ParametricReLU
from qanas.quantization.operators.reductions import Softmax
from qanas.quantization.operators.rescaling import HardSigmoid, ReLU
from qanas.quantization.operators.tables import TabulatedFunction
from qanas.quantization.tracing.builder import Builder, Translators, of_module, with_settings
from qanas.quantization.tracing.parts import chunk
from qanas.quantization.tracing.pointwise import Operand, add, multiply, negate, of_two
from qanas.quantization.tracing.values import Value, positions


def relu(builder: Builder, value: Value, /, inplace: bool = False) -> Value:
    """Take a ReLU."""
    del inplace
    return builder.unary(ReLU(), value)


def relu6(builder: Builder, value: Value, /, inplace: bool = False) -> Value:
    """Take a ReLU6."""
    del inplace
    return builder.unary(ReLU("relu6"), value)


def clamp(
    builder: Builder,
    value: Value,
    /,
    min: Operand | None = None,  # noqa: A002 - as torch has it
    max: Operand | None = None,  # noqa: A002 - likewise
) -> Value:
    """Take a clamp: a ReLU, a ReLU6, or any other; what lies on one side of 0 is shifted there and back."""
    if not _is_number(min) or not _is_number(max):
        value = value if min is None else maximum(builder, value, min)
        return value if max is None else minimum(builder, value, max)
    low, high = (-math.inf if min is None else float(min)), (math.inf if max is None else float(max))
    if low == -math.inf and high == math.inf:
        return value
    if low > high:
        raise ValueError(f"a clamp from {min} to {max}")
    for activation, bounds in BOUNDS.items():
        if bounds == (low, high):
            return builder.unary(ReLU(activation), value)
    offset = low if low > 0.0 else (high if high < 0.0 else 0.0)  # noqa: FURB136 - min is an argument
    if offset == 0.0:
        return builder.unary(Clamp(low, high), value)
    return add(builder, clamp(builder, add(builder, value, -offset), low - offset, high - offset), offset)


def _is_number(bound: Operand | None) -> TypeGuard[float | None]:
    return not isinstance(bound, Value | Tensor) or (isinstance(bound, Tensor) and bound.numel() == 1)


def hardtanh(
    builder: Builder,
    value: Value,
    /,
    min_val: float = -1.0,
    max_val: float = 1.0,
    inplace: bool = False,
) -> Value:
    """Take a clamp under its other name."""
    del inplace
    return clamp(builder, value, min_val, max_val)


def threshold(builder: Builder, value: Value, /, threshold: float, value_below: float, inplace: bool = False) -> Value:
    """Take a threshold; from 0 to 0 it is a ReLU."""
    if threshold == value_below == 0.0:
        return relu(builder, value, inplace)
    of_both = partial(F.threshold, threshold=threshold, value=value_below)
    return tabulated("threshold", of_both, lambda x: float_terms.threshold(x, threshold, value_below))(builder, value)


def absolute(builder: Builder, value: Value, /) -> Value:
    """Take sizes without their sign."""
    return builder.unary(Absolute(), value)


def leaky_relu(builder: Builder, value: Value, /, negative_slope: float = 0.01, inplace: bool = False) -> Value:
    """Take a leaky ReLU."""
    del inplace
    return builder.unary(LeakyReLU(negative_slope), value)


def rrelu(
    builder: Builder,
    value: Value,
    /,
    lower: float = 1.0 / 8.0,
    upper: float = 1.0 / 3.0,
    training: bool = False,
    inplace: bool = False,
) -> Value:
    """Take a randomized leaky ReLU: once the network is trained, its slope is the mean one."""
    del training, inplace
    return leaky_relu(builder, value, (lower + upper) / 2.0)


def prelu(builder: Builder, value: Value, /, weight: Tensor) -> Value:
    """Take a leaky ReLU of learned slopes, one or one a channel."""
    slopes = weight.detach().flatten()
    if len(slopes) == 1:
        slope = float(slopes)
        return leaky_relu(builder, value, slope) if slope >= 0.0 else builder.unary(ParametricReLU(slopes), value)
    if value.shape[0] != len(slopes):
        raise ValueError(f"a PReLU of {len(slopes)} slopes got {value.shape[0]} channels")
    source, order = builder.ending_in(value, 0)
    stored_at = positions(value.torch[0], order)
    return builder.unary(ParametricReLU(slopes if stored_at is None else slopes[stored_at]), source)


def sigmoid(builder: Builder, value: Value, /) -> Value:
    """Take a logistic function."""
    return builder.unary(Logistic(), value)


def tanh(builder: Builder, value: Value, /) -> Value:
    """Take a hyperbolic tangent."""
    return builder.unary(Tanh(), value)


def hardswish(builder: Builder, value: Value, /, inplace: bool = False) -> Value:
    """Take a hard swish."""
    del inplace
    return builder.unary(HardSwish(), value)


def hardsigmoid(builder: Builder, value: Value, /, inplace: bool = False) -> Value:
    """Take a hard sigmoid."""
    del inplace
    return builder.unary(HardSigmoid(), value)


def silu(builder: Builder, value: Value, /, inplace: bool = False) -> Value:
    """Take ``x * sigmoid(x)`` as these two operators."""
    del inplace
    return multiply(builder, value, sigmoid(builder, value))


def glu(builder: Builder, value: Value, /, dim: int = -1) -> Value:
    """Take one half of an axis times the logistic function of the other."""
    half, gate = chunk(builder, value, 2, dim)
    return multiply(builder, half, sigmoid(builder, gate))


def softmax(
    builder: Builder, value: Value, /, dim: int | None = None, _stacklevel: int = 3, dtype: torch.dtype | None = None
) -> Value:
    """Take a softmax over an axis; it is stored last for it."""
    del _stacklevel, dtype
    return over_axis(builder, value, Softmax(), dim)


def softmin(
    builder: Builder, value: Value, /, dim: int | None = None, _stacklevel: int = 3, dtype: torch.dtype | None = None
) -> Value:
    """Take a softmax of the values with the other sign."""
    return softmax(builder, negate(builder, value), dim, _stacklevel, dtype)


def over_axis(builder: Builder, value: Value, shares: Softmax | LogSoftmax, dim: int | None) -> Value:
    """Append what goes over an axis, which is stored last for it."""
    if dim is None:
        raise ValueError("a softmax over no named axis; name it: softmax(x, dim=1)")
    source, _ = builder.ending_in(value, value.axis(dim))
    return builder.unary(shares, source)


def maximum(builder: Builder, one: Operand, other: Operand, /) -> Value:
    """Take the larger ones of two values, or of a value and a number."""
    return _extreme_of_two(builder, ExtremeOfTwo("largest"), one, other)


def minimum(builder: Builder, one: Operand, other: Operand, /) -> Value:
    """Take the smaller ones of two values, or of a value and a number."""
    return _extreme_of_two(builder, ExtremeOfTwo("smallest"), one, other)


def _extreme_of_two(builder: Builder, extreme: ExtremeOfTwo, one: Operand, other: Operand) -> Value:
    if not isinstance(one, Value):
        one, other = other, one
    assert isinstance(one, Value)  # noqa: S101 - translators are called with at least one
    if isinstance(other, Value):
        return of_two(builder, extreme, one, other)
    bound = torch.as_tensor(other)
    if bound.numel() != 1:
        apart = add(builder, one, -bound) if extreme.side == "largest" else add(builder, negate(builder, one), bound)
        apart = relu(builder, apart)
        return add(builder, apart if extreme.side == "largest" else negate(builder, apart), bound)
    return clamp(builder, one, float(bound)) if extreme.side == "largest" else clamp(builder, one, None, float(bound))


def power(builder: Builder, value: Operand, exponent: Operand, /) -> Value:
    """Take a power; a square is a product."""
    constant = value if isinstance(exponent, Value) else exponent
    if isinstance(constant, Value) or torch.as_tensor(constant).numel() != 1:
        raise ValueError("a power of two values, or of several constants; take a number as base or as exponent")
    if not isinstance(value, Value):
        assert isinstance(exponent, Value)  # noqa: S101 - translators are called with at least one
        base = float(value)
        return tabulated(f"powers of {base:g}", partial(torch.pow, base), lambda x: base**x)(builder, exponent)
    exponent = float(constant)
    if exponent == 2.0:  # noqa: PLR2004 - a square
        return multiply(builder, value, value)
    power_of = partial(torch.pow, exponent=exponent)
    return tabulated(f"a power of {exponent:g}", power_of, lambda x: x**exponent)(builder, value)


def square(builder: Builder, value: Value, /) -> Value:
    """Take a product with itself."""
    return multiply(builder, value, value)


def tabulated(
    name: str,
    function: Callable[..., Tensor],
    formula: Formula | None = None,
) -> Callable[..., Value]:
    """Return the translator of a function of single values that is looked up.

    Args:
        name: what people call it.
        function: in torch; takes what the translator takes.
        formula: of what computes it in float32; None where the runtime has nothing for it.
    """

    def translate(builder: Builder, value: Value, /, *arguments: Any, **settings: Any) -> Value:  # noqa: ANN401
        settings.pop("inplace", None)
        computed = partial(_called, function, arguments, settings) if arguments or settings else function
        in_float = term_of(formula, *arguments, **settings)
        return builder.unary(TabulatedFunction(name, computed, in_float), value)

    return translate


def _called(
    function: Callable[..., Tensor], arguments: tuple[Any, ...], settings: Mapping[str, Any], values: Tensor
) -> Tensor:
    return function(values, *arguments, **settings)


gelu = tabulated("GELU", F.gelu, float_terms.gelu)
elu, celu = tabulated("ELU", F.elu, float_terms.elu), tabulated("CELU", F.celu, float_terms.celu)
selu, mish = tabulated("SELU", F.selu, float_terms.selu), tabulated("Mish", F.mish, float_terms.mish)
softplus = tabulated("Softplus", F.softplus, float_terms.softplus)
softsign = tabulated("Softsign", F.softsign, lambda x: x / (1.0 + float_terms.absolute(x)))
logsigmoid = tabulated("LogSigmoid", F.logsigmoid, lambda x: -float_terms.softplus(-x))
tanhshrink = tabulated("Tanhshrink", F.tanhshrink, lambda x: x - float_terms.tanh(x))
softshrink = tabulated("Softshrink", F.softshrink, float_terms.softshrink)
hardshrink = tabulated("Hardshrink", F.hardshrink, float_terms.hardshrink)

BY_FUNCTION = {
    function: tabulated(function.__name__, function, FORMULAS.get(function.__name__))
    for function in (
        torch.exp,
        torch.log,
        torch.sqrt,
        torch.rsqrt,
        torch.sin,
        torch.cos,
        torch.expm1,
        torch.log1p,
        torch.log2,
        torch.log10,
        torch.exp2,
        torch.logit,
        torch.erf,
        torch.erfc,
        torch.reciprocal,
        torch.tan,
        torch.asin,
        torch.acos,
        torch.atan,
        torch.sinh,
        torch.cosh,
        torch.asinh,
        torch.acosh,
        torch.atanh,
        torch.sinc,
        torch.deg2rad,
        torch.rad2deg,
        torch.sign,
        torch.sgn,
        torch.floor,
        torch.ceil,
        torch.round,
        torch.trunc,
        torch.frac,
    )
}

TRANSLATORS = Translators(
    functions={
        **dict.fromkeys((torch.relu, torch.relu_, F.relu, F.relu_, "relu", "relu_"), relu),
        F.relu6: relu6,
        **dict.fromkeys((torch.clamp, torch.clip, "clamp", "clamp_", "clip"), clamp),
        **dict.fromkeys((torch.clamp_min, "clamp_min", "clamp_min_", torch.maximum, "maximum"), maximum),
        **dict.fromkeys((torch.clamp_max, "clamp_max", "clamp_max_", torch.minimum, "minimum"), minimum),
        F.hardtanh: hardtanh,
        F.threshold: threshold,
        **dict.fromkeys((torch.abs, torch.absolute, "abs"), absolute),
        F.leaky_relu: leaky_relu,
        **dict.fromkeys((F.rrelu, torch.rrelu), rrelu),
        **dict.fromkeys((F.prelu, torch.prelu), prelu),
        **dict.fromkeys((torch.sigmoid, F.sigmoid, torch.special.expit, "sigmoid", "sigmoid_"), sigmoid),
        **dict.fromkeys((torch.tanh, F.tanh, "tanh", "tanh_"), tanh),
        F.hardswish: hardswish,
        F.hardsigmoid: hardsigmoid,
        F.silu: silu,
        F.glu: glu,
        **dict.fromkeys((torch.softmax, F.softmax, "softmax"), softmax),
        F.softmin: softmin,
        F.gelu: gelu,
        F.elu: elu,
        **dict.fromkeys((F.celu, torch.celu), celu),
        **dict.fromkeys((F.selu, torch.selu), selu),
        F.mish: mish,
        F.softplus: softplus,
        F.softsign: softsign,
        F.logsigmoid: logsigmoid,
        F.tanhshrink: tanhshrink,
        F.softshrink: softshrink,
        **dict.fromkeys((F.hardshrink, torch.hardshrink), hardshrink),
        **dict.fromkeys((operator.pow, torch.pow, "pow"), power),
        **dict.fromkeys((torch.square, "square"), square),
        **{name: translate for function, translate in BY_FUNCTION.items() for name in (function, function.__name__)},
    },
    modules={
        nn.ReLU: of_module(relu),
        nn.ReLU6: of_module(relu6),
        nn.Hardtanh: with_settings(hardtanh, "min_val", "max_val"),
        nn.Threshold: with_settings(threshold, "threshold", "value"),
        nn.LeakyReLU: with_settings(leaky_relu, "negative_slope"),
        nn.RReLU: with_settings(rrelu, "lower", "upper"),
        nn.PReLU: with_settings(prelu, "weight"),
        nn.Sigmoid: of_module(sigmoid),
        nn.Tanh: of_module(tanh),
        nn.Hardswish: of_module(hardswish),
        nn.Hardsigmoid: of_module(hardsigmoid),
        nn.SiLU: of_module(silu),
        nn.GLU: with_settings(glu, "dim"),
        nn.Softmax: with_settings(softmax, "dim"),
        nn.Softmin: with_settings(softmin, "dim"),
        nn.Softmax2d: lambda builder, _, value: softmax(builder, value, 1),
        nn.GELU: lambda builder, module, value: gelu(builder, value, approximate=module.approximate),
        nn.ELU: with_settings(elu, "alpha"),
        nn.CELU: with_settings(celu, "alpha"),
        nn.SELU: of_module(selu),
        nn.Mish: of_module(mish),
        nn.Softplus: with_settings(softplus, "beta", "threshold"),
        nn.Softsign: of_module(softsign),
        nn.LogSigmoid: of_module(logsigmoid),
        nn.Tanhshrink: of_module(tanhshrink),
        nn.Softshrink: with_settings(softshrink, "lambd"),
        nn.Hardshrink: with_settings(hardshrink, "lambd"),
    },
)
