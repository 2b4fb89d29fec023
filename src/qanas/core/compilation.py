"""How compiled functions are compiled, and found again by the next process."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import TypeVar, cast

import numba

Function = TypeVar("Function", bound=Callable[..., object])


def inlined(function: Function) -> Function:
    """Compile into its callers."""
    return cast("Function", numba.njit(forceinline=True, error_model="numpy")(function))


def part(function: Function) -> Function:
    """Compile as a part of an entry point."""
    return cast("Function", numba.njit(error_model="numpy")(function))


def merged(function: Function) -> Function:
    """Become lines of the caller before compilation.

    For functions that do little but call others: each level of calls has all that is below it optimised once more.
    """
    return cast("Function", numba.njit(inline="always", error_model="numpy")(function))


def entry_point(types_of_arguments: object, *called: ModuleType) -> Callable[[Function], Function]:
    """Compile at once for these types, or load it as compiled before.

    The compiled code is kept beside the function's file or, where that is read-only, in the user's cache folder;
    where neither can be written it is compiled in every process. Numba takes what it kept if the function's own
    file is unchanged; the functions that it calls are in other files too, so its name there has their digest.

    Args:
        types_of_arguments: Numba's.
        called: packages other than the function's own whose functions it calls.
    """

    def compile_function(function: Function) -> Function:
        files = [function.__code__.co_filename, *(str(package.__file__) for package in called)]
        function.__qualname__ += f"_{_digest(*files)}"
        try:
            compiled = numba.njit(types_of_arguments, cache=True, error_model="numpy")(function)
        except RuntimeError as error:
            if "cannot cache" not in str(error):
                raise
            compiled = numba.njit(types_of_arguments, error_model="numpy")(function)
        return cast("Function", compiled)

    return compile_function


def _digest(*files: str) -> str:
    """Return a digest of the sources that a function may call: those of some files' packages, and this one."""
    sources = {source for file in files for source in Path(file).parent.glob("*.py")} | {Path(__file__)}
    return hashlib.sha256(b"".join(source.read_bytes() for source in sorted(sources))).hexdigest()[:16]
