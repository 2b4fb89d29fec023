"""The schemes that have a name."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from functools import cache
from importlib import resources

from qanas.quantization.scheme import Scheme

DEFAULT_SCHEME = "int8"


@cache
def named_schemes() -> Mapping[str, Scheme]:
    """Return the schemes of ``schemes.toml`` by name, in the order of that file.

    >>> named_schemes()["symmetric_per_channel"].activations
    'symmetric'
    """
    text = resources.files("qanas.quantization").joinpath("schemes.toml").read_text("utf-8")
    return {name: Scheme(**fields) for name, fields in tomllib.loads(text).items()}
