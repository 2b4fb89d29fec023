"""A network of one's own as it is given: by the name of what makes it, or the object itself, which stays as it is."""

from __future__ import annotations

import copy
import inspect
import re
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy
from torch.overrides import TorchFunctionMode

from qanas.core.errors import InputError, described, import_object
from qanas.core.own_modules import find_first_in
from qanas.quantization.graph import UnsupportedNetworkError
from qanas.quantization.tracing import unwrapped
from qanas.training.pretrained import load_weights


def load_network(name: str, weights: Path | None = None) -> nn.Module:
    """Return a network in eval mode, its weights float32 on the CPU.

    Random numbers start from one seed, so that a network without trained weights is the same one each time.

    Args:
        name: ``module:object``, the module found from the current folder first: a network, or a class or function
            without arguments that makes one.
        weights: a state dict to load into it; None: it has its weights already.

    Raises:
        InputError: there is no such object, it gives no network, or the weights are another network's.
    """
    if not re.fullmatch(r"[\w.]+:\w+", name):
        raise InputError(f"'{name}' names no object; give MODULE:OBJECT, such as my_network:build")
    find_first_in(Path.cwd())
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        found = _found(name)
        # Once more: the module's own import, which happens once only, may have drawn numbers.
        torch.manual_seed(0)
        network = _made(name, found)
    network = ready(name, network)
    if weights is not None:
        load_weights(network, weights)
    return network


def ready(name: str, network: nn.Module) -> nn.Module:
    """Return a network in eval mode, its weights float32 on the CPU."""
    try:
        return unwrapped(network).to("cpu", torch.float32).eval()
    except UnsupportedNetworkError as error:
        raise InputError(f"'{name}': {error}") from error
    except (Exception, SystemExit) as error:
        raise InputError(f"'{name}' can't be put into eval mode on the CPU: {described(error, __file__)}") from error


class _Detaching(TorchFunctionMode):
    """Copies what was computed from parameters, too: `weight_norm`, pruning and kept features leave such tensors."""

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Iterable[type],
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:  # noqa: ANN401 - whatever is called
        """Copy a tensor that torch's own copy refuses without its history."""
        if func is not Tensor.__deepcopy__ or args[0].is_leaf:
            return func(*args, **(kwargs or {}))
        tensor, copied = args
        return copied.setdefault(id(tensor), tensor.detach().clone())


def copied(name: str, network: nn.Module) -> nn.Module:
    """Return a network of the same values that can be changed.

    Raises:
        InputError: something in it can't be copied.
    """
    if any(map(is_lazy, (*network.parameters(), *network.buffers()))):
        raise InputError(f"'{name}' has lazy modules without weights; call it on a sample, or train it, first")
    try:
        with _Detaching():
            return copy.deepcopy(network)
    except Exception as error:  # whatever a user's objects raise
        reason = described(error, __file__)
        raise InputError(
            f"'{name}' can't be copied: {reason}; export it from the command line, MODULE:OBJECT"
        ) from error


@contextmanager
def watched(network: nn.Module) -> Iterator[list[str]]:
    """Yield the paths of a network's modules that are called meanwhile, in a list that grows.

    Python copies no functions: those in a copy of a network that hold modules go on with the modules of the original.
    """
    called: list[str] = []
    handles = [
        module.register_forward_pre_hook(lambda *_, path=path: called.append(path))
        for path, module in network.named_modules()
    ]
    try:
        yield called
    finally:
        for handle in handles:
            handle.remove()


def is_ready(network: nn.Module) -> bool:
    """Tell whether `ready` would change nothing."""
    tensors = [*network.parameters(), *network.buffers()]
    return not any(module.training for module in network.modules()) and all(
        tensor.device.type == "cpu" and (tensor.dtype == torch.float32 or not tensor.is_floating_point())
        for tensor in tensors
    )


def _found(name: str) -> object:
    try:
        return import_object(name)
    except (Exception, SystemExit) as error:
        raise InputError(f"'{name}' can't be imported: {described(error, __file__)}") from error


def _made(name: str, found: object) -> nn.Module:
    """Return the network that an object is, or makes."""
    if isinstance(found, nn.Module):
        return found
    if not callable(found):
        raise InputError(
            f"'{name}' is a {type(found).__name__}; give a torch.nn.Module, or a function without arguments that "
            "returns one"
        )
    needed = _needed_arguments(found)
    if needed:
        raise InputError(
            f"'{name}' needs {', '.join(needed)}; give a function without arguments that makes the network"
        )
    try:
        made: object = found()
    except (Exception, SystemExit) as error:
        raise InputError(f"'{name}' can't be made: {described(error, __file__)}") from error
    if not isinstance(made, nn.Module):
        raise InputError(f"'{name}' returns a {type(made).__name__}; it must return a torch.nn.Module")
    return made


def _needed_arguments(function: object) -> list[str]:
    """Return the names of the arguments that a call can't leave out."""
    try:
        parameters = inspect.signature(function).parameters.values()  # type: ignore[arg-type]  # it is callable
    except (TypeError, ValueError):  # some of those written in C don't tell
        return []
    optional = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
    return [entry.name for entry in parameters if entry.default is entry.empty and entry.kind not in optional]
