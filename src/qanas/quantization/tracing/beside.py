"""Calls on values that torch holds with the batch elsewhere, or joined to other axes: windows as samples.

Such a value is taken apart: the batch in front, what is beside it as an axis of its own behind. Functions that name
axes get the numbers that these have then; what knows one image or series alone is called on one after the other.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any, NoReturn

from torch import Tensor, nn

from qanas.quantization.tracing.builder import Builder
from qanas.quantization.tracing.joining import stacked
from qanas.quantization.tracing.parts import along, told
from qanas.quantization.tracing.torch_calls import names_in
from qanas.quantization.tracing.values import Stacked, Unavailable, Value, mapped, size_of

Call = Callable[[Sequence[Any], Mapping[str, Any]], Any]
"""Calls a translator with arguments and options."""

RESHAPED = names_in("flatten Flatten unflatten Unflatten reshape view reshape_as view_as ravel")
"""What says anew which axis a number belongs to; it knows what is beside the batch by itself."""

EVERYWHERE = names_in("einsum tensordot expand broadcast_to")
"""What knows where the batch is."""

NOTHING = names_in("clone dropout Dropout Dropout1d Dropout2d Identity")
"""What changes no number."""

ROWS = names_in("conv1d Conv1d max_pool1d MaxPool1d avg_pool1d AvgPool1d conv_transpose1d ConvTranspose1d")
"""What goes over time has a row for everything beside the batch."""

CHANNELS = names_in("batch_norm BatchNorm1d BatchNorm2d SyncBatchNorm prelu PReLU")
"""What reads the first axis, whatever is behind it."""

ALIKE = names_in(
    "add mul sub rsub div neg pow square maximum minimum clamp clamp_min clamp_max relu relu6 hardtanh leaky_relu "
    "sigmoid tanh hardswish hardsigmoid silu gelu elu celu selu mish softplus softsign logsigmoid abs exp log sqrt "
    "rsqrt sin cos erf sign reciprocal masked_fill where addcmul lerp ReLU ReLU6 Hardtanh LeakyReLU Sigmoid Tanh "
    "Hardswish Hardsigmoid SiLU GELU ELU CELU SELU Mish Softplus Softsign LogSigmoid gt ge lt le eq ne and or xor "
    "invert logical_and logical_or logical_xor logical_not bitwise_and bitwise_or bitwise_xor bitwise_not"
)
"""What computes number by number."""

LAST: Mapping[str, int] = {
    **dict.fromkeys(names_in("linear Linear layer_norm LayerNorm rms_norm RMSNorm"), 1),
    **dict.fromkeys(names_in("matmul bmm scaled_dot_product_attention"), 2),
}
"""What computes along the last axes, and how many those are at least."""

OWN_AXIS = names_in("Softmax LogSoftmax Softmin GLU")
"""Modules that hold the number of an axis."""

AXES: Mapping[str, tuple[str, int]] = {
    **dict.fromkeys(
        names_in("softmax log_softmax mean sum amax amin var std var_mean std_mean max min select narrow glu"),
        ("dim", 1),
    ),
    **dict.fromkeys(names_in("unbind cat stack"), ("dim", 1)),
    **dict.fromkeys(
        names_in("chunk split tensor_split normalize repeat_interleave norm linalg_norm linalg_vector_norm diff"),
        ("dim", 2),
    ),
    "flip": ("dims", 1),
    "roll": ("dims", 2),
}
"""What names axes: the argument's name and place."""

USUAL_AXES = {
    "glu": -1,
    "diff": -1,
    "normalize": 1,
    **dict.fromkeys(names_in("cat stack chunk split tensor_split unbind"), 0),
}
"""Axes that torch takes where none is named."""

MOST_UNROLLED = 64
"""Positions beside the batch that a call is translated for one by one."""


def of_placed(function: str, call: Call, builder: Builder, arguments: Sequence[Any], options: Mapping[str, Any]) -> Any:  # noqa: ANN401
    """Translate a call on values with a batch that is elsewhere, or with something beside it.

    Args:
        function: its name, or that of the module's class.
        call: the translator.
        builder: takes the operators.
        arguments: as the code of the network gave them, a module in front.
        options: the same by name.

    Raises:
        ValueError: what an axis of the batch has no meaning for.
    """
    values = _values([arguments, options])
    if function in RESHAPED or not any(value.inner for value in values):
        return _of_outer(function, call, builder, arguments, options)
    # The batch is behind what is beside it: each is computed alike in either order.
    if not all(value.inner for value in values):
        raise ValueError(_joined(function))
    outer = mapped((tuple(arguments), dict(options)), Value, lambda value: replace(value, inner=False))
    result = _of_outer(function, call, builder, *outer)
    return mapped(result, Value, lambda value: replace(value, inner=bool(value.beside)))


def _of_outer(function: str, call: Call, builder: Builder, arguments: Sequence[Any], options: Mapping[str, Any]) -> Any:  # noqa: ANN401 - values in any structure
    """Translate a call on values with the batch in front of what is beside it, see `of_placed`."""
    module = [entry for entry in arguments[:1] if isinstance(entry, nn.Module)]
    given = list(arguments[len(module) :])
    values = _values([given, options])
    first = values[0]
    if function in _RELABELS:
        return _RELABELS[function](call, first, *given[1:], **options)
    everywhere = function in EVERYWHERE and not any(value.beside for value in values)
    if function in NOTHING or everywhere or function in RESHAPED or (not first.batch and _knows_rows(function, module)):
        return call(arguments, options)
    _require_alike(function, values)
    if function in AXES and not (len(given) > 1 and isinstance(given[1], Value | Tensor)):
        return _over_axes(function, call, first, given, dict(options))
    if function in ALIKE:
        given, options = _constants_in_front((given, options), first)
    lasts = LAST.get(function, len(first.torch) + 1)
    if function in ALIKE or function in AXES or first.batch <= len(first.torch) - lasts:
        return _back(call((*module, *_front(given)), _front(options)), first, first.batch)
    if function in OWN_AXIS and not first.beside:
        return mapped(call(arguments, options), Value, lambda value: replace(value, batch=first.batch))
    if first.batch:
        _refuse(function, first)
    return _beside_alone(function, call, builder, arguments, options)


def _beside_alone(
    function: str, call: Call, builder: Builder, arguments: Sequence[Any], options: Mapping[str, Any]
) -> Any:  # noqa: ANN401 - values in any structure
    """Translate a call on values with the batch in front and something beside it."""
    first = _values([arguments, options])[0]
    if function in CHANNELS:
        behind = replace(first, torch=(*first.torch, first.beside), beside=())
        result: Value = call(mapped(tuple(arguments), Value, lambda _: behind), options)
        return replace(result, torch=result.torch[:-1], beside=result.torch[-1])
    if function in {"expand", "repeat"}:
        sizes = [size for entry in arguments[1:] for size in (entry if isinstance(entry, list | tuple) else [entry])]
        return _back(call((first.apart, 1, -1 if function == "expand" else 1, *sizes[1:]), options), first, 0)
    return _one_by_one(function, call, builder, arguments, options, size_of(first.beside))


def _knows_rows(function: str, module: Sequence[nn.Module]) -> bool:
    """Tell whether a function itself knows what is beside the batch."""
    return function in ROWS and all(getattr(one, "padding_mode", "zeros") == "zeros" for one in module)


def _refuse(function: str, value: Value) -> NoReturn:
    raise ValueError(
        f"{function} of a value with the batch as its axis {value.batch}; put the batch in front before it"
    )


def _joined(function: str) -> str:
    """Return what is wrong where some values have axes joined to the batch, and others haven't, and the mend."""
    told = f"{function} of values of which one has axes joined to the batch"
    if function.startswith("conv"):
        return f"{told}: with kernels of each sample's own; convolve with every expert, and weigh what comes out"
    return f"{told}; take them apart before it"


def _require_alike(function: str, values: Sequence[Value]) -> None:
    if len({size_of(value.beside) for value in values}) > 1:
        raise ValueError(_joined(function))
    places = sorted({value.batch for value in values})
    if len(places) > 1:
        raise ValueError(f"{function} of values with the batch as axes {' and '.join(map(str, places))}")


def _values(entry: object) -> list[Value]:
    found: list[Value] = []
    mapped(entry, Value, found.append)
    return found


def _front(entry: Any) -> Any:  # noqa: ANN401 - in any structure
    """Return values taken apart; those with nothing beside the batch have no axis for it."""
    return mapped(entry, Value, lambda value: value.apart if value.beside else replace(value, batch=0))


def _constants_in_front(entry: Any, first: Value) -> Any:  # noqa: ANN401 - in any structure
    """Return constants beside a value with the axis that torch repeats along its batch where `_front` has that axis.

    Raises:
        ValueError: they differ from sample to sample.
    """
    rank = len(first.torch) + 1

    def moved(constant: Tensor) -> Tensor:
        if constant.ndim > rank:
            return constant
        whole = constant.reshape((1,) * (rank - constant.ndim) + tuple(constant.shape))
        if first.beside:
            return whole.movedim(first.batch, 0)
        if whole.shape[first.batch] != 1:
            raise ValueError(
                f"a constant of shape {tuple(constant.shape)} with a value whose batch is axis {first.batch}; give it "
                "the size 1 there"
            )
        return whole.squeeze(first.batch)

    return mapped(entry, Tensor, moved)


def _back(result: Any, first: Value, batch: int) -> Any:  # noqa: ANN401 - values in any structure
    """Return results as torch has them, alike the value that they were computed from."""
    return mapped(result, Value, lambda value: replace(value.joined if first.beside else value, batch=batch))


def _number(value: Value, number: int, further: int) -> int:
    """Return torch's number of an axis for the value taken apart, among these and further ones that are made."""
    rank = len(value.torch) + 1 + further
    if not -rank <= number < rank:
        raise ValueError(f"axis {number} of a value of {rank - further} axes")
    place = number % rank
    if place == value.batch and not further:
        raise ValueError("an operator over the batch; each sample must be computed by itself")
    return place - (place > value.batch) + 1 + bool(value.beside)


def _over_axes(function: str, call: Call, first: Value, given: list[Any], named: dict[str, Any]) -> Any:  # noqa: ANN401
    """Translate what names axes."""
    name, place = AXES[function]
    axes = given[place] if len(given) > place else named.pop(name, named.pop("axis", USUAL_AXES.get(function)))
    if axes is None:
        raise ValueError(f"{function} over everything, the batch included; name the axes")
    further = int(function == "stack")
    wanted = [axes] if isinstance(axes, int) else list(axes)
    numbers = [_number(first, one, further) for one in wanted]
    told = numbers[0] if isinstance(axes, int) else numbers
    if len(given) > place:
        given[place] = told
    else:
        named[name] = told
    if function == "cat":  # constants have every axis, the batch among them
        given[0] = mapped(given[0], Tensor, lambda constant: constant.movedim(first.batch, 0))
        if first.beside:
            given[0] = mapped(given[0], Tensor, lambda constant: constant[None])
    result = call(tuple(_front(given)), _front(named))
    rank = len(first.torch) + 1 + further
    left = len(_values([result])[0].torch) - bool(first.beside)
    fewer = sum(one % rank < first.batch for one in wanted) if left < len(first.torch) else 0
    more = sum(one % rank <= first.batch for one in wanted) if further else 0
    return _back(result, first, first.batch - fewer + more)


def picked(call: Call, value: Value, index: Any) -> Value:  # noqa: ANN401
    """Translate an index into a value with the batch anywhere."""
    entries = list(index) if isinstance(index, tuple) else [index]
    rank = len(value.torch) + 1
    given = sum(entry is not None and entry is not ... for entry in entries)
    place = next((number for number, entry in enumerate(entries) if entry is ...), len(entries))
    entries[place : place + 1] = [slice(None)] * (rank - given)
    others: list[Any] = []
    seen, batch = 0, 0
    for entry in entries:
        if entry is None:
            others.append(entry)
            batch += seen <= value.batch
            continue
        if seen == value.batch:
            if entry != slice(None):
                raise ValueError(f"the index {told(index)}; take the whole batch, which is axis {value.batch}")
        else:
            others.append(entry)
            batch += seen < value.batch and not isinstance(entry, int)
        seen += 1
    in_front = [slice(None)] * (1 + bool(value.beside))
    result: Value = _back(call((_front(value), (*in_front, *others)), {}), value, batch)
    return result


def unsqueezed(call: Call, value: Value, dim: int) -> Value:
    """Return a value with a further axis of size 1, maybe in front of the batch."""
    del call
    rank = len(value.torch) + 2
    if not -rank <= dim < rank:
        raise ValueError(f"a new axis at {dim} of a value of {rank - 1} axes")
    number = dim % rank
    axes = list(value.torch)
    axes.insert(number - (number > value.batch), ())
    return replace(value, torch=tuple(axes), batch=value.batch + (number <= value.batch))


def _squeezed(call: Call, value: Value, dim: int | Sequence[int] | None = None) -> Value:
    """Return a value without some axes of size 1, maybe in front of the batch."""
    del call
    rank = len(value.torch) + 1
    if dim is None:
        dim = [number for number in range(rank) if number != value.batch]
    numbers = [number % rank for number in ([dim] if isinstance(dim, int) else dim)]
    gone = {number for number in numbers if not value.torch[value.axis(number)]}
    left = tuple(axis for place, axis in enumerate(value.torch) if place + (place >= value.batch) not in gone)
    return replace(value, torch=left, batch=value.batch - sum(number < value.batch for number in gone))


_RELABELS: Mapping[str, Callable[..., Value]] = {"getitem": picked, "unsqueeze": unsqueezed, "squeeze": _squeezed}
"""What may move the batch among other axes."""


def _one_by_one(
    function: str, call: Call, builder: Builder, arguments: Sequence[Any], options: Mapping[str, Any], count: int
) -> Any:  # noqa: ANN401 - values in any structure
    """Translate a call for each position beside the batch, with the same weights, and put the results together."""
    if count > MOST_UNROLLED:
        raise ValueError(
            f"{function} of {count} parts of a sample, one after the other; {MOST_UNROLLED} are unrolled at most: take "
            "it before they are joined to the batch"
        )
    origin = builder.origin
    results = []
    for position in range(count):
        builder.origin = origin

        def part(value: Value, position: int = position) -> Value:
            return along(builder, value.apart, 1, position)

        results.append(call(mapped(tuple(arguments), Value, part), mapped(options, Value, part)))
    return _together(builder, results)


def _together(builder: Builder, results: Sequence[Any]) -> Any:  # noqa: ANN401 - values in any structure
    """Return the same structure as each of the results has, of all of them."""
    one = results[0]
    if isinstance(one, Value):
        return stacked(builder, results, 1).joined
    if isinstance(one, Stacked):
        return Stacked(
            tuple(_together(builder, parts) for parts in zip(*(entry.parts for entry in results), strict=True))
        )
    if isinstance(one, Unavailable):
        layers, batch, *rest = one.whole_shape
        return Unavailable((layers, batch * len(results), *rest), one.layer)
    if isinstance(one, list | tuple):
        return type(one)(_together(builder, parts) for parts in zip(*results, strict=True))
    return one
