"""Quantization-aware neural architecture search for edge devices.

From Python as from the command line: ``qanas.run("recipe.toml")`` returns a `Result`, whose fronts are polars data
frames; ``qanas.load("runs/fd001")`` returns that of a run that is there already. ``qanas.check``, ``pick``, ``verify``,
``compare``, ``export`` and ``profile`` are the commands; ``qanas.predict`` runs a shipped model.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

from qanas.core.errors import InputError

if TYPE_CHECKING:
    from qanas.api import Result, check, compare, export, load, pick, predict, profile, run, verify

__version__ = "0.2.0"

__all__ = ["InputError", "Result", "check", "compare", "export", "load", "pick", "predict", "profile", "run", "verify"]


def __getattr__(name: str) -> object:
    """Import what is asked for when it is asked for: ``import qanas`` must not wait for polars or torch."""
    if name in __all__:
        return getattr(import_module("qanas.api"), name)
    raise AttributeError(f"module 'qanas' has no attribute '{name}'")


def __dir__() -> list[str]:
    """List what there is before it is imported, for whoever completes names."""
    return [*__all__, "__version__"]
