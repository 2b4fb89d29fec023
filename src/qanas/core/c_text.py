"""C text: identifiers, numbers and arrays, and the templates that they stand in; C99, and C++17 as well."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from functools import cache
from typing import Any, Literal

import numpy as np
from jinja2 import Environment, PackageLoader, StrictUndefined

INT32 = np.iinfo(np.int32)

_SPECIAL = {math.inf: "INFINITY", -math.inf: "(-INFINITY)"}


def identifier(*parts: str) -> str:
    """Return what identifiers can begin with, made of some names: in lower case, what C has no letter for as ``_``.

    >>> identifier("2026 Störung", "baseline-dense-4")
    'model_2026_st_rung_baseline_dense_4'
    >>> identifier("m"), identifier("signal")
    ('model_m', 'model_signal')
    """
    name = "_".join(filter(None, map(plain, parts)))
    taken = name in _TARGETS or name in _HEADERS
    return name if name[:1].isalpha() and not taken else f"model_{name}".rstrip("_")


def plain(name: str) -> str:
    """Return a name in what identifiers may have, in lower case; it may begin with a digit, or be empty.

    >>> plain("4 Größe-x")
    '4_gr_e_x'
    """
    return re.sub(r"[^A-Za-z0-9]+", "_", name).strip("_").lower()


_TARGETS = frozenset({"all", "clean", "edit_cache", "help", "install", "m", "package", "rebuild_cache", "test"})
"""Targets that CMake has itself, and C's library, which firmware links. Keywords of C can't clash: no identifier is a
name alone."""

_HEADERS = frozenset({
    "alloca", "arduino", "arm_acle", "arm_neon", "assert", "client", "complex", "cpio", "ctype", "dirent",
    "endian", "errno", "fcntl", "features", "fenv", "float", "getopt", "glob", "iconv", "inttypes", "ipaddress",
    "iso646", "langinfo", "libgen", "limits", "locale", "malloc", "math", "memory", "monetary", "netdb", "newlib",
    "nl_types", "poll", "print", "printable", "pthread", "regex", "reent", "sched", "search", "semaphore",
    "server", "setjmp", "signal", "spawn", "spi", "stdalign", "stdarg", "stdatomic", "stdbool", "stddef", "stdint",
    "stdio", "stdlib", "stdnoreturn", "stream", "string", "strings", "syslog", "tar", "termios", "tgmath",
    "threads", "time", "uchar", "udp", "ulimit", "unistd", "utime", "values", "version", "wait", "wchar", "wctype",
    "wire", "wordexp", "wstring",
})  # fmt: skip
"""Headers of C, POSIX, compilers and Arduino: NAME.h, where compilers look first, would stand in for them."""


Side = Literal["input", "output"]


def labels(side: Side, names: Sequence[str]) -> dict[str, str]:
    """Return what the identifiers of inputs or outputs have of them, by their names; all differ.

    >>> labels("output", ["boxes", "class-scores"])
    {'boxes': 'output_boxes', 'class-scores': 'output_class_scores'}
    >>> labels("output", ["life", "life_steps"])
    {'life': 'output_life', 'life_steps': 'output_life_steps_'}
    """
    if len(names) == 1:
        return {names[0]: side}
    found: dict[str, str] = {}
    for name in names:
        plain = re.sub(r"\W", "_", name, flags=re.ASCII).lower()
        # An output that is called output_0 already isn't called so twice.
        label = plain if plain.startswith(f"{side}_") else f"{side}_{plain}"
        known = found.values()
        while {label, label.removesuffix(_STEPS), f"{label}{_STEPS}"} & set(known):
            label += "_"
        found[name] = label
    return found


_STEPS = "_steps"
"""Behind an output's label: the function that holds it against its golden vectors."""


def real(value: float, suffix: str = "f") -> str:
    """Return a floating-point literal: of a float, or without the suffix of a double, to the last bit.

    >>> real(0.1), real(0.1, ""), real(float("-inf")), real(1e39)
    ('0.1f', '0.1', '(-INFINITY)', 'INFINITY')
    """
    with np.errstate(over="ignore"):
        number = np.float32(value) if suffix else np.float64(value)
    if np.isnan(number):
        return "NAN"
    return f"{number!s}{suffix}" if np.isfinite(number) else _SPECIAL[float(number)]


def array(texts: Sequence[object], per_line: int = 12) -> str:
    """Return what stands between the braces of an array, some entries a line."""
    lines = [texts[start : start + per_line] for start in range(0, len(texts), per_line)]
    return ",\n".join("    " + ", ".join(map(str, line)) for line in lines)


def reals(values: Sequence[float], suffix: str = "f", per_line: int = 6) -> str:
    """Return `real` numbers between the braces of an array."""
    return array([real(value, suffix) for value in values], per_line)


def render(package: str, template: str, **values: Any) -> str:  # noqa: ANN401 - whatever the template names
    """Return a template's text.

    Args:
        package: in whose folder the template lies.
        template: the file's name.
        values: what it names; `real`, `reals` and `array` are filters in it.
    """
    return _environment(package).get_template(template).render(**values)


@cache
def _environment(package: str) -> Environment:
    environment = Environment(  # C, nothing to escape
        loader=PackageLoader(package, "."),
        autoescape=False,  # noqa: S701
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters |= {"real": real, "reals": reals, "array": array}
    return environment
