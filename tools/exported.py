"""Write into docs/export.md what the exporter knows: what of torch, and what a file is made of.

python tools/exported.py            # writes
python tools/exported.py --check    # fails where the page says something else
"""

from __future__ import annotations

import importlib
import inspect
import operator
import pkgutil
import re
import textwrap
from collections.abc import Iterable
from pathlib import Path
from types import ModuleType

import torch
import torch.nn.functional as F  # noqa: N812 - torch's own idiom
from torch import nn

from qanas.deployment.onnx.write import LOWERINGS
from qanas.deployment.operators import OPERATOR_KINDS
from qanas.quantization import operators
from qanas.quantization.operators.base import Operator
from qanas.quantization.operators.dense import Scaling
from qanas.quantization.tracing.trace import FUNCTIONS, MODULES

PAGE = Path(__file__).parents[1] / "docs" / "export.md"
BEGIN, END = "<!-- exported: begin -->", "<!-- exported: end -->"
WIDTH = 120


def lines() -> list[str]:
    """Return the part of the page between the marks."""
    modules = [kind.__name__ for kind in MODULES if getattr(nn, kind.__name__, None) is kind]
    known = set(FUNCTIONS)
    of_torch, functional, algebra = (
        [name for name in _public(home) if getattr(home, name) in known] for home in (torch, F, torch.linalg)
    )
    methods = [name for name in known if isinstance(name, str)]
    python = {"+": "add", "-": "sub", "*": "mul", "/": "truediv", "@": "matmul", "**": "pow", "[]": "getitem"}
    python |= {">": "gt", ">=": "ge", "<": "lt", "<=": "le", "==": "eq", "!=": "ne"}
    python |= {"&": "and_", "|": "or_", "^": "xor", "~": "invert"}
    signs = [sign for sign, name in python.items() if getattr(operator, name) in known or name in known]
    wide, narrow = _by_bits()
    return [
        *_paragraph("Modules of `torch.nn`", modules),
        *_paragraph("Functions of `torch.nn.functional`", functional),
        *_paragraph("Functions of `torch`", of_torch),
        *_paragraph("Functions of `torch.linalg`", algebra),
        *_paragraph("Methods of tensors", methods),
        *_paragraph("Python's own", signs),
        *_paragraph("Operators that a file is made of", list(OPERATOR_KINDS)),
        *_paragraph("Of what a graph is made of, these have kernels of 8 and of 16 bits", wide),
        *_paragraph("and these of 8 bits alone", narrow),
        *_paragraph("In ONNX there are no", _not_in_onnx()),
    ]


def _public(home: ModuleType) -> list[str]:
    return [name for name in dir(home) if not name.startswith("_") and callable(getattr(home, name))]


def _operators() -> list[type[Operator]]:
    for module in pkgutil.iter_modules(operators.__path__):
        importlib.import_module(f"{operators.__name__}.{module.name}")
    found: list[type[Operator]] = []
    waiting: list[type[Operator]] = [Operator]
    while waiting:
        kind = waiting.pop()
        waiting += kind.__subclasses__()
        own = kind.__module__.startswith(operators.__name__) and not kind.__name__.startswith("_")
        if own and not inspect.isabstract(kind) and not issubclass(kind, Scaling):
            found.append(kind)
    return found


def _by_bits() -> tuple[list[str], list[str]]:
    """Return the names of operators with kernels of both widths, and of those with 8 bits alone."""
    kinds = _operators()
    wide = [kind.__name__ for kind in kinds if len(kind.activation_bits) > 1]
    return wide, [kind.__name__ for kind in kinds if len(kind.activation_bits) == 1]


def _not_in_onnx() -> list[str]:
    known = {kind.__name__.removeprefix("Quantized") for kind in LOWERINGS}
    return [name for name in ("GRU", "LSTM") if name not in known]


def _paragraph(title: str, names: Iterable[str]) -> list[str]:
    text = f"**{title}**: {', '.join(f'`{name}`' for name in sorted(set(names), key=str.lower))}."
    return [*textwrap.wrap(text, WIDTH, break_long_words=False, break_on_hyphens=False), ""]


def page() -> tuple[str, str]:
    """Return the page as it is, and as it would be written."""
    found = PAGE.read_text("utf-8")
    part = "\n".join([BEGIN, "", *lines(), END])
    return found, re.sub(f"{re.escape(BEGIN)}.*?{re.escape(END)}", lambda _: part, found, flags=re.DOTALL)


if __name__ == "__main__":
    PAGE.write_text(page()[1], "utf-8")
