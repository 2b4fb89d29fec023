"""A user's own trained network, named ``module:object``."""

from __future__ import annotations

import inspect
import re
from pathlib import Path

import torch
from torch import nn

from qanas.core.errors import InputError
from qanas.core.user_code import described, find_first_in, import_object
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
    network = network.to("cpu", torch.float32).eval()
    if weights is not None:
        load_weights(network, weights)
    return network


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
