"""What the functions of torch are to a value of a known shape that has no numbers."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Collection, Mapping, Sequence
from types import FunctionType, GetSetDescriptorType
from typing import Any

import torch
from torch import Tensor, nn


def names_in(text: str) -> frozenset[str]:
    """Return names that are written one behind the other."""
    return frozenset(text.split())


def plain(name: str) -> str:
    """Return a function's name without what Python and torch put around it."""
    bare = name.removeprefix("__").removesuffix("__") if name.startswith("__") else name
    return bare.removesuffix("_") if not bare.startswith("_") else bare


def asked(function: Any, arguments: tuple[Any, ...], options: Mapping[str, Any]) -> Any:  # noqa: ANN401
    """Return what a value knows of itself."""
    with torch._C.DisableTorchFunctionSubclass():
        return function(*arguments, **options)


def as_it_is(name: str, arguments: tuple[Any, ...], options: Mapping[str, Any]) -> Any:  # noqa: ANN401
    """Return a value that a call leaves as it is: of float32, on the CPU.

    Raises:
        ValueError: it does not.
    """
    given = [*arguments[1:], *options.values()]
    types = [entry for entry in given if isinstance(entry, torch.dtype)]
    types += [entry.dtype for entry in given if isinstance(entry, Tensor)]
    types += [
        TYPES.get(entry, torch.float64) for entry in given if isinstance(entry, str) and entry.startswith("torch.")
    ]
    types += [TYPES[f"torch.{name}"]] if f"torch.{name}" in TYPES else []
    if any(kind != torch.float32 for kind in types):
        raise ValueError(f"a value as {types[0]}; values are float32 here, keep them so")
    return arguments[0] if type(arguments[0]) is not Tensor else arguments[0].to(torch.float32)


NUMPYS_NAMES = {"axis": "dim", "keepdims": "keepdim"}
"""What torch lets arguments be called as well, as numpy does."""


def in_order(
    called: str | nn.Module, given: Sequence[Any], named: Mapping[str, Any], taken: Collection[str]
) -> tuple[list[Any], dict[str, Any]]:
    """Return arguments as a translator takes them, those by torch's names that it doesn't know in torch's order.

    Args:
        called: the function's name, or the module.
        given: arguments by their place.
        named: arguments by their names in torch.
        taken: the names by which the translator takes them.
    """
    left = {NUMPYS_NAMES.get(key, key) if key not in taken else key: entry for key, entry in named.items()}
    unknown = {key for key, entry in left.items() if key not in taken and entry is not None}
    kind = called if isinstance(called, str) else type(called)
    for order in _orders(kind) if unknown else ():  # type: ignore[arg-type]  # classes are hashable
        if unknown <= set(order[len(given) :]):
            moved = order[len(given) : max(map(order.index, unknown)) + 1]
            if all(key in left for key in moved):
                return [*given, *map(left.pop, moved)], left
    return list(given), left


@functools.cache
def _orders(name: str | type[nn.Module]) -> tuple[tuple[str, ...], ...]:
    """Return the names of a function's or a module's arguments in their order, for each form that torch has of it."""
    if not isinstance(name, str):
        return (tuple(inspect.signature(name.forward).parameters)[1:],)
    schemas = torch._C._jit_get_schemas_for_operator(f"aten::{name}")
    return tuple(
        tuple("input" if entry.name == "self" else entry.name for entry in schema.arguments if not entry.kwarg_only)
        for schema in schemas
    )


def without_dispatch(function: Any) -> Callable[..., Any] | None:  # noqa: ANN401
    """Return a Python function of torch that goes on where the original would ask the values; None for any other."""
    if not isinstance(function, FunctionType) or not str(function.__module__).startswith("torch"):
        return None
    names = ("has_torch_function", "has_torch_function_unary", "has_torch_function_variadic")
    scope = {**function.__globals__, **dict.fromkeys(names, lambda *_: False)}
    copy = FunctionType(function.__code__, scope, function.__name__, function.__defaults__, function.__closure__)
    copy.__kwdefaults__ = function.__kwdefaults__
    return copy


GETTERS: Mapping[Any, str] = {
    getattr(Tensor, name).__get__: name
    for name in dir(Tensor)
    if isinstance(getattr(Tensor, name), GetSetDescriptorType | property)
}
"""The names of a tensor's properties, by what torch hands over for them."""

SETTERS: Mapping[Any, str] = {
    getattr(Tensor, name).__set__: name
    for name in dir(Tensor)
    if isinstance(getattr(Tensor, name), GetSetDescriptorType | property)
}
"""The same for what sets them."""

PROPERTIES = names_in(
    "shape ndim dtype device layout requires_grad is_leaf grad_fn grad names itemsize nbytes output_nr is_cuda "
    "is_cpu is_xpu is_mps is_meta is_mkldnn is_sparse is_sparse_csr is_quantized is_nested is_ipu is_xla is_mtia "
    "is_maia is_vulkan _version retains_grad name volatile"
)
"""Those that a value without numbers knows."""

ASKED = names_in(
    "size dim ndimension numel nelement stride is_contiguous storage_offset element_size len is_floating_point "
    "is_complex is_signed get_device hash is_same_size is_inference has_names is_tensor is_conj is_neg "
    "retain_grad register_hook is_pinned is_nonzero_size result_type can_cast"
)
"""Functions that a value answers without numbers."""

TOLD = frozenset(("repr", "str", "format"))

_BRANCH = "a condition on numbers can't be exported; compute both sides, or decide by shapes"
READ: Mapping[str, str] = {
    **dict.fromkeys(("__bool__", "__contains__", "equal", "allclose", "is_nonzero", "_assert"), _BRANCH),
    **dict.fromkeys(
        (
            "item",
            "__float__",
            "__int__",
            "__index__",
            "__complex__",
            "tolist",
            "numpy",
            "__array__",
            "nonzero",
            "data_ptr",
        ),
        "keep to torch's functions on values",
    ),
}
"""Functions that need the numbers, and what to do."""

LIKE = names_in(
    "zeros_like ones_like full_like empty_like new_zeros new_ones new_full new_tensor new_empty broadcast_tensors_like"
)
"""Functions that read nothing but the shape."""

SAME = names_in("to type type_as float double half bfloat16 int long bool cpu cuda contiguous detach requires_grad")
"""Functions that leave a float32 value on the CPU as it is, the object included."""

TYPES = {
    f"torch.{kind}": getattr(torch, kind)
    for kind in ("float", "double", "half", "bfloat16", "int", "long", "bool", "float32")
}
TYPES["torch.FloatTensor"] = torch.float32

REVERSED = {
    "rsub": "sub",
    "rdiv": "div",
    "rtruediv": "div",
    "rmatmul": "matmul",
    "radd": "add",
    "rmul": "mul",
    "rpow": "pow",
}

ALIASES = {
    "deepcopy": "clone",
    "copy": "clone",
    "true_divide": "div",
    "divide": "div",
    "multiply": "mul",
    "subtract": "sub",
    "negative": "neg",
}

WRITES = names_in("copy_ fill_ zero_")
"""Methods that write into all of a tensor, as ``x[:] = y`` does."""

VIEWS = names_in(
    "view reshape flatten unflatten transpose swapaxes swapdims permute movedim moveaxis t unsqueeze squeeze "
    "getitem narrow select split chunk tensor_split hsplit vsplit dsplit unbind expand expand_as view_as "
    "reshape_as diagonal unfold adjoint ravel Flatten Unflatten dropout dropout1d dropout2d dropout3d "
    "alpha_dropout feature_dropout"
)
"""Functions and modules that may give a view of their first argument."""
