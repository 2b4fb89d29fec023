"""Runs a network's forward on values of known shapes and notes every call of torch that meets one.

The values are tensors to the code that sees them: sizes, loops and conditions on them are Python's own, hooks run, and
what is changed in place is changed for everybody who holds it. They have no numbers: each function of torch that gets
one is translated at once, or looked into where it is written in Python and made of others.
"""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, ClassVar, Self

import numpy as np
import torch
from torch import Tensor, nn

from qanas.core.errors import told
from qanas.quantization.border import INPUT, named_parts
from qanas.quantization.graph import OtherNetworkError, UnsupportedNetworkError
from qanas.quantization.operators.base import Shape
from qanas.quantization.tracing.builder import Builder, Names, Translator
from qanas.quantization.tracing.calling import called
from qanas.quantization.tracing.calls import Call, Known, Passed, Slot, Tables
from qanas.quantization.tracing.torch_calls import (
    ALIASES,
    ASKED,
    GETTERS,
    LIKE,
    PROPERTIES,
    READ,
    REVERSED,
    SAME,
    SETTERS,
    TOLD,
    VIEWS,
    WRITES,
    as_it_is,
    asked,
    plain,
    without_dispatch,
)
from qanas.quantization.tracing.values import OtherwiseError, holds, mapped


class _Storage:
    """What several views share: changed through one of them, the others are out of date."""

    def __init__(self) -> None:
        self.version = 0
        self.changed = ""


class Traced(Tensor):
    """A tensor of a known shape, with a batch of 1, and without numbers."""

    slot: Slot
    shares: _Storage
    version: int

    @classmethod
    def of(cls, slot: Slot, shape: Shape, storage: _Storage | None = None) -> Self:
        """Return the tensor of a slot; it shares its storage with others where it is a view."""
        made: Self = Tensor._make_wrapper_subclass(cls, shape, dtype=torch.float32)
        made.slot = slot
        made.shares = storage or _Storage()
        made.version = made.shares.version
        return made

    @classmethod
    def __torch_function__(
        cls,
        func: Callable[..., Any],
        types: object,
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:  # noqa: ANN401 - whatever torch returns
        """Hand a call of torch to the recorder that is at work."""
        del types
        if Recorder.active is None:
            raise RuntimeError("a value of a finished trace; don't keep what a forward computes for later calls")
        return Recorder.active.function(func, args, dict(kwargs or {}))

    @classmethod
    def __torch_dispatch__(  # type: ignore[override]  # as torch calls it
        cls,
        func: Callable[..., Any],
        types: object,
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:  # noqa: ANN401 - never
        """Refuse what came past `__torch_function__`."""
        del types, args, kwargs
        raise ValueError(f"{func} has no operator; call torch's functions instead")


class Recorder:
    """Notes the calls of a network.

    Attributes:
        active: the one that is at work.
        builder: takes the operators.
        values: by slot.
        calls: so far.
        passed: the modules, in the order in which they were done.
    """

    active: ClassVar[Recorder | None] = None

    def __init__(self, network: nn.Module, tables: Tables, builder: Builder) -> None:
        """Prepare; nothing runs yet."""
        self.builder = builder
        self.values: list[Known] = list(builder.inputs.values())
        self.calls: list[Call] = []
        self.passed: list[Passed] = []
        self._network, self._tables = network, tables
        self._paths: dict[int, str] = {}
        self._tensors: dict[int, str] = {}  # of shared ones the first name stays
        for path, module in network.named_modules():
            self._paths[id(module)] = path
            for name, tensor in _own_tensors(module):
                self._tensors.setdefault(id(tensor), f"{path}.{name}" if path else name)
        self._names = Names((INPUT, *builder.inputs))
        self._modules: list[nn.Module] = []
        self._looked_into: list[object] = []
        self._constants: list[Any] = []
        self._refusal: UnsupportedNetworkError | None = None

    def run(self) -> dict[str, Slot]:
        """Run the network's forward in evaluation mode and return where each of its outputs is, by name.

        Raises:
            UnsupportedNetworkError: a call that has no translation, or something is put out that is no value.
            Exception: whatever the network's own code raises.
        """
        inputs = {
            name: Traced.of(Slot(place), value.whole_shape)
            for place, (name, value) in enumerate(self.builder.inputs.items())
        }
        before, Recorder.active = Recorder.active, self
        try:
            with torch.no_grad(), _evaluated(self._network), _intercepted():
                result = called(self._network, inputs)
            if self._refusal is not None:  # somebody's own code has caught it
                raise self._refusal
            try:
                outputs = named_parts(result, Traced)
            except ValueError as error:
                raise UnsupportedNetworkError(f"what the network puts out: {error}") from error
            with self._telling():
                return {name: self._used(one) for name, one in outputs.items()}
        finally:
            Recorder.active = before
            for constant in self._constants:  # whoever keeps one has what it was
                constant.__class__ = Tensor

    def module(self, call: Callable[..., Any], module: nn.Module, arguments: tuple[Any, ...], options: Any) -> Any:  # noqa: ANN401
        """Return what a module gives: translated as a whole, or looked into."""
        if not holds((arguments, options), Traced):
            return call(module, *arguments, **options)
        if isinstance(module, torch.jit.ScriptModule):
            raise self.refused("a scripted module; export the Python module that it was made from")
        self._modules.append(module)
        try:
            translator = self._tables.modules.get(type(module))
            if translator is None or "forward" in module.__dict__:
                result = call(module, *arguments, **options)
            elif not _hooked(module):
                result = self._whole(translator, module, arguments, options)
            else:  # hooks run around what is translated
                module.__dict__["forward"] = lambda *args, **kwargs: self._whole(translator, module, args, kwargs)
                try:
                    result = call(module, *arguments, **options)
                finally:
                    module.__dict__.pop("forward", None)
            self._note_passed(module, (arguments, options), result)
            return result
        finally:
            self._modules.pop()

    def _note_passed(self, module: nn.Module, given: Any, result: Any) -> None:  # noqa: ANN401 - in any structure
        path = self._paths.get(id(module))
        if path is not None:
            self.passed.append(Passed(path, mapped(given, Traced, _slot), mapped(result, Traced, _slot)))

    def _whole(self, translator: Translator, module: nn.Module, arguments: tuple[Any, ...], options: Any) -> Any:  # noqa: ANN401
        parts = module.modules() if module._modules else (module,)
        tensors = [tensor for part in parts for _, tensor in _own_tensors(part)]
        origin = ", ".join(self._tensors.get(id(tensor), "") for tensor in tensors)
        name = type(module).__name__
        with self._telling():
            if module.training and (getattr(module, "p", 0) > 0 or hasattr(module, "running_mean")):
                raise OtherwiseError(
                    f"{name} is in training mode although the network is not; leave its mode to eval()"
                )
            result = self._noted(name, translator, self._path(), origin, (module, *arguments), options)
            if getattr(module, "inplace", False) and isinstance(result, Traced):
                return self._changed(arguments[0] if arguments else options["input"], result)
            source = arguments[0] if arguments else options.get("input")
            if isinstance(source, Traced) and isinstance(result, Traced):
                if self.values[source.slot.number] is self.values[result.slot.number]:
                    return source
                return self._as_view(source, result) if name in VIEWS else result
            return result

    def function(self, function: Any, arguments: tuple[Any, ...], options: dict[str, Any]) -> Any:  # noqa: ANN401
        """Return what a function of torch gives."""
        with self._telling():
            if getattr(function, "__name__", "") in WRITES:
                return self._written_whole(function.__name__, arguments, options)
            return self._function(function, arguments, options)

    def _written_whole(self, name: str, arguments: tuple[Any, ...], options: Mapping[str, Any]) -> Any:  # noqa: ANN401
        """Write into all of a value, or of a constant that the forward has made."""
        filling = 0.0 if name == "zero_" else [*arguments[1:], *options.values()][0]
        self._function(Tensor.__setitem__, (arguments[0], slice(None), filling), {})
        return arguments[0]

    def _function(self, function: Any, arguments: tuple[Any, ...], options: dict[str, Any]) -> Any:  # noqa: ANN401 - a case a line
        getter = GETTERS.get(function)
        if getter is not None:
            return self._property(getter, function, arguments)
        if function in SETTERS:
            self._set(SETTERS[function], *arguments)
            return None
        raw = getattr(function, "__name__", type(function).__name__)
        name = plain(raw)
        answer = _answer(function, name, arguments, options)
        if answer is not None:
            return answer
        if name in {"deepcopy", "copy"}:  # not what was copied before
            arguments = arguments[:1]
        if name in REVERSED and len(arguments) > 1:
            name, arguments = REVERSED[name], (arguments[1], arguments[0])
            function = name
        if options.get("out") is not None:
            raise ValueError(f"{name} with out=; assign its result instead")
        translator = self._translator(function, name)
        if translator is None:
            return self._looked(function, name, arguments, options)
        changes = bool(options.pop("inplace", False)) or (raw.endswith("_") and not raw.endswith("__"))
        if raw == "__setitem__":
            changes = True
            _written_back(*arguments)
            if not isinstance(arguments[0], Traced):
                return self._filled(name, translator, arguments)
        return self._with_operator(name, translator, arguments, options, changes=changes)

    def _with_operator(
        self, name: str, translator: Translator, arguments: tuple[Any, ...], options: dict[str, Any], *, changes: bool
    ) -> Any:  # noqa: ANN401 - in any structure
        """Return what a function with a translator gives, or changes in place."""
        result = self._noted(
            name, translator, self._name_of(name), self._origin(arguments, options), arguments, options
        )
        if changes:
            return self._changed(arguments[0] if arguments else options.get("input"), result)
        if name in VIEWS:
            source = arguments[0] if arguments else options["input"]
            return mapped(result, Traced, lambda one: self._as_view(source, one))
        return result

    def _filled(self, name: str, translator: Translator, arguments: tuple[Any, ...]) -> None:
        """Let a constant that the forward has made be a value from here on: something was written into it."""
        constant: Any = arguments[0]
        if id(constant) in self._tensors or constant._base is not None or constant.dtype != torch.float32:
            raise OtherwiseError("a value is written into a constant tensor; compute a new tensor instead: torch.cat")
        result = self._noted(name, translator, self._name_of(name), "", arguments, {})
        constant.__class__ = Traced
        constant.slot, constant.shares, constant.version = result.slot, _Storage(), 0
        self._constants.append(constant)

    def _translator(self, function: Any, name: str) -> Translator | None:  # noqa: ANN401 - hashable
        functions = self._tables.functions
        return functions.get(function) or functions.get(name) or self._tables.by_name.get(ALIASES.get(name, name))

    def _property(self, name: str, getter: Any, arguments: tuple[Any, ...]) -> Any:  # noqa: ANN401
        if name in PROPERTIES:
            return asked(getter, arguments, {})
        if name in {"data", "real"}:
            return self._as_view(arguments[0], arguments[0])
        if name in {"T", "mT", "H", "mH"}:
            one: Traced = arguments[0]
            if one.ndim != 2 and name in {"T", "H"}:  # noqa: PLR2004 - a matrix
                return one.permute(*reversed(range(one.ndim)))
            return one.transpose(-2, -1)
        raise ValueError(f"the attribute {name} of a value; what is known of it is its shape")

    def _set(self, name: str, target: Traced, value: object) -> None:
        """Set a property of a value."""
        if name == "data":
            self._changed(target, value)
        elif name not in {"requires_grad", "grad"}:
            raise ValueError(f"the attribute {name} of a value is set; leave it as it is")

    def _looked(self, function: Any, name: str, arguments: tuple[Any, ...], options: Any) -> Any:  # noqa: ANN401
        """Run a function of torch that is written in Python, on the values, or refuse it."""
        inner = getattr(function, "_torchdynamo_inline", None) or without_dispatch(function)
        if inner is None or function in self._looked_into:
            module = self._modules[-1] if self._modules else None
            whole = module is not None and type(module).__module__.startswith("torch.nn")
            what = type(module).__name__ if whole else name
            raise ValueError(f"{what} has no operator; {self._tables.instead(type(module) if whole else function)}")
        self._looked_into.append(function)
        try:
            return inner(*arguments, **options)
        finally:
            self._looked_into.pop()

    def _noted(
        self,
        function: str,
        translator: Translator,
        name: str,
        origin: str,
        arguments: tuple[Any, ...],
        options: Mapping[str, Any],
    ) -> Any:  # noqa: ANN401 - in any structure
        """Translate a call, note it, and return its result."""
        given = mapped((tuple(arguments), dict(options)), np.integer, int)
        slots, named = mapped(given, Traced, self._used)
        call = Call(self._names.new(name), function, origin, translator, slots, named)
        result = call.run(self.builder, self.values)
        self.calls.append(call)
        return mapped(result, Slot, lambda slot: Traced.of(slot, self.values[slot.number].whole_shape))

    def _used(self, one: Traced) -> Slot:
        if one.version != one.shares.version:
            raise OtherwiseError(
                f"a value that {one.shares.changed} has changed in place through another view of it; compute a new "
                "value instead: y = relu(y)"
            )
        return one.slot

    def _changed(self, target: object, result: object) -> object:
        """Let a value be another one from here on, for everybody who holds it."""
        if not isinstance(target, Traced) or not isinstance(result, Traced):
            raise OtherwiseError("a value is written into a constant tensor; compute a new tensor instead")
        if asked(Tensor.size, (target,), {}) != asked(Tensor.size, (result,), {}):
            raise ValueError("a change in place to another shape; assign the result instead")
        target.slot = result.slot
        target.shares.version += 1
        target.shares.changed = self._line() or self._path() or "a call"
        target.version = target.shares.version
        return target

    def _as_view(self, source: object, result: Traced) -> Traced:
        """Return the result as a view of another value."""
        if not isinstance(source, Traced):
            return result
        return Traced.of(result.slot, self.values[result.slot.number].whole_shape, source.shares)

    def _origin(self, arguments: Any, options: Any) -> str:  # noqa: ANN401 - in any structure
        """Return the names of the parameters that a call takes; empty where others are computed from them."""
        names: list[str] = []

        def noted(tensor: Tensor) -> Tensor:
            if not isinstance(tensor, Traced):
                names.append(self._tensors.get(id(tensor), ""))
            return tensor

        mapped((arguments, options), Tensor, noted)
        return ", ".join(names) if all(names) else ""

    def _name_of(self, function: str) -> str:
        """Return a name for what a function gives: a module's of torch's kind is that module's."""
        module = self._modules[-1] if self._modules else self._network
        torchs = type(module).__module__.startswith("torch.") or isinstance(module, tuple(self._tables.modules))
        return (self._path() if torchs else "") or function

    def _path(self) -> str:
        """Return the path of the innermost module of the network that is being run."""
        known = (self._paths[id(module)] for module in reversed(self._modules) if id(module) in self._paths)
        return next(known, "")

    @contextlib.contextmanager
    def _telling(self) -> Iterator[None]:
        """Turn what goes wrong into a refusal that names the place."""
        try:
            yield
        except UnsupportedNetworkError:
            raise
        except Exception as error:
            raise self.refused(told(error) or type(error).__name__, isinstance(error, OtherwiseError)) from error

    def refused(self, reason: str, otherwise: bool = False) -> UnsupportedNetworkError:
        """Return a refusal that names the module's path and the line of the user's file."""
        line = self._line()
        place = self._path() or type(self._network).__name__
        kind = OtherNetworkError if otherwise else UnsupportedNetworkError
        refusal = kind(f"{place}: {reason}{f' ({line})' if line else ''}")
        self._refusal = self._refusal or refusal
        return refusal

    @staticmethod
    def _line() -> str:
        """Return file and line of the innermost code that is neither torch's nor ours; empty where there is none."""
        frame = sys._getframe(1)
        while frame is not None and frame.f_code is not Recorder.run.__code__:
            name = frame.f_code.co_filename
            if not name.startswith(("<", *OURS)):
                return f"{Path(name).name}, line {frame.f_lineno}"
            frame = frame.f_back  # type: ignore[assignment]
        return ""


RECORDING = __file__
"""This file, which is no place to look at for whoever wrote a network."""

OURS = (str(Path(torch.__file__).parent), str(Path(__file__).parent), str(Path(contextlib.__file__)))
"""Files that are no place to look at for whoever wrote a network."""


def _answer(function: Any, name: str, arguments: tuple[Any, ...], options: Mapping[str, Any]) -> Any:  # noqa: ANN401
    """Return what a call gives without an operator; None where it needs one."""
    if name in ASKED or (name == "type" and len(arguments) == 1 and not options):
        return asked(function, arguments, options)
    raw = getattr(function, "__name__", "")
    if raw in READ:
        raise ValueError(f"{raw} reads the numbers of a value; {READ[raw]}")
    if name in TOLD:
        return "a value without numbers"
    if name in LIKE:
        stand_ins = mapped((arguments, options), Traced, lambda one: torch.zeros(asked(Tensor.size, (one,), {})))
        return function(*stand_ins[0], **stand_ins[1])
    return as_it_is(name, arguments, options) if name in SAME else None


def _written_back(target: object, _: object, source: object) -> None:
    """Let a part that was changed be written to where it is from: ``x[:, 0] *= 2`` of Python."""
    if isinstance(target, Traced) and isinstance(source, Traced) and source.shares is target.shares:
        last = target.shares.version
        if source.version == last and target.version == last - 1:
            target.version = last


def _slot(one: Traced) -> Slot:
    return one.slot


def _hooked(module: nn.Module) -> bool:
    hooks = nn.modules.module
    return bool(
        module._forward_hooks
        or module._forward_pre_hooks
        or hooks._global_forward_hooks
        or hooks._global_forward_pre_hooks
    )


def _own_tensors(module: nn.Module) -> list[tuple[str, Tensor]]:
    """Return a module's own parameters, then buffers, with names; torch's generators take as long as a translation."""
    held = (*module._parameters.items(), *module._buffers.items())
    return [(name, tensor) for name, tensor in held if tensor is not None]


@contextlib.contextmanager
def _evaluated(network: nn.Module) -> Iterator[None]:
    """Keep a network in evaluation mode, and undo what its forward sets: what ships is its branch there."""
    modules = [module for module in network.modules() if not isinstance(module, torch.jit.ScriptModule)]
    states = [
        (module, dict(module.__dict__), dict(module._buffers), dict(module._parameters), dict(module._modules))
        for module in modules
    ]
    network.eval()
    try:
        yield
    finally:
        for module, attributes, buffers, parameters, children in states:
            module.__dict__.clear()
            module.__dict__.update(attributes)
            for held, kept in (
                (module._buffers, buffers),
                (module._parameters, parameters),
                (module._modules, children),
            ):
                held.clear()
                held.update(kept)  # type: ignore[arg-type]  # what it held


@contextlib.contextmanager
def _intercepted() -> Iterator[None]:
    """Let the recorder see every call of a module, and the code of what was scripted."""
    original = nn.Module.__call__
    # Compiled in place or not, a module's own code is what runs.
    plain: Callable[..., Any] = nn.Module._call_impl

    def call(module: nn.Module, *arguments: Any, **options: Any) -> Any:  # noqa: ANN401
        if Recorder.active is None:
            return plain(module, *arguments, **options)
        return Recorder.active.module(plain, module, arguments, options)

    scripted = torch.jit.ScriptFunction.__call__

    def call_function(function: torch.jit.ScriptFunction[Any, Any], *arguments: Any, **options: Any) -> Any:  # noqa: ANN401
        own = getattr(function, "_torchdynamo_inline", None)
        return (scripted if own is None else own)(*(() if own else (function,)), *arguments, **options)

    nn.Module.__call__ = call  # type: ignore[method-assign]
    torch.jit.ScriptFunction.__call__ = call_function  # type: ignore[method-assign, assignment]
    try:
        yield
    finally:
        nn.Module.__call__ = original  # type: ignore[method-assign]
        torch.jit.ScriptFunction.__call__ = scripted  # type: ignore[method-assign]
