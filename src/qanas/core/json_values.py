"""Values as JSON has them. Python's own writes NaN and Infinity, which no other reader takes."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any


def json_value(value: Any) -> Any:  # noqa: ANN401 - whatever is to be written
    """Return a value as JSON has it: paths as text, numbers that aren't finite as null.

    >>> json_value({"auc": float("nan"), 3: (1.0, float("inf"))})
    {'auc': None, '3': [1.0, None]}
    """
    if isinstance(value, Mapping):
        return {str(name): json_value(entry) for name, entry in value.items()}
    if isinstance(value, list | tuple):
        return [json_value(entry) for entry in value]
    if isinstance(value, Path):
        return str(value)
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value
