"""Runs the installed command as often as it is told, each time in a fork of this process.

Importing torch takes seconds, and the acceptance tests start the command about two hundred times. So this process
imports everything once, what an earlier child needed included, and forks for each request: the child runs the
console script from its file, as the shell would, with its own arguments, working directory, environment and output
files. A request may also name a function at whose k-th call the process is killed as by ``kill -9``, and one whose
calls are counted.

Requests and answers are JSON, one a line, on standard input and output.
"""

from __future__ import annotations

import atexit
import functools
import gc
import json
import os
import runpy
import signal
import sys
import traceback
from collections.abc import Callable
from contextlib import suppress
from importlib import import_module
from pathlib import Path
from typing import Any, NoReturn

Function = Callable[..., Any]


def wrap(target: str, wrapper: Callable[[Function], Function]) -> None:
    """Replace ``module:function`` or ``module:Class.method`` wherever qanas refers to it."""
    module, _, path = target.partition(":")
    owner: Any = import_module(module)
    *parents, name = path.split(".")
    for parent in parents:
        owner = getattr(owner, parent)
    found = getattr(owner, name)
    wrapped = functools.wraps(found)(wrapper(found))
    setattr(owner, name, wrapped)
    for key, loaded in list(sys.modules.items()):
        if key.startswith("qanas") and vars(loaded).get(name) is found:
            setattr(loaded, name, wrapped)


def killing(call: int) -> Callable[[Function], Function]:
    """Return a wrapper that kills this process at the beginning of a call, counted from 1."""
    calls = 0

    def wrapper(function: Function) -> Function:
        def killed(*args: object, **kwargs: object) -> object:
            nonlocal calls
            calls += 1
            if calls == call:
                os.kill(os.getpid(), signal.SIGKILL)
            return function(*args, **kwargs)

        return killed

    return wrapper


def counting(name: str, path: Path) -> Callable[[Function], Function]:
    """Return a wrapper that appends a line to a file for every call."""

    def wrapper(function: Function) -> Function:
        def counted(*args: object, **kwargs: object) -> object:
            with path.open("a") as file:
                file.write(f"{name}\n")
            return function(*args, **kwargs)

        return counted

    return wrapper


def become(request: dict[str, Any], writer: int) -> NoReturn:
    """Be the command: runs in the child."""
    os.chdir(request["cwd"])
    os.environ.clear()
    os.environ.update(request["env"])
    sys.dont_write_bytecode = False
    for name, descriptor in (("stdout", 1), ("stderr", 2)):
        opened = os.open(request[name], os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        os.dup2(opened, descriptor)
        os.close(opened)
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    if request["count"]:
        wrap(request["count"], counting(request["count"], Path(request["calls"])))
    if request["kill"]:
        wrap(request["kill"][0], killing(request["kill"][1]))
    sys.argv = [request["command"], *request["args"]]
    sys.path[0] = str(Path(request["command"]).parent)
    code = run_script(request["command"])
    with os.fdopen(writer, "w") as names:
        names.write(json.dumps(loaded(request["cwd"])))
    end(code)


def run_script(path: str) -> int:
    """Run a script and return its exit code."""
    try:
        runpy.run_path(path, run_name="__main__")
    except SystemExit as leaving:
        return leaving.code if isinstance(leaving.code, int) else int(leaving.code is not None)
    except BaseException:  # noqa: BLE001 - as the interpreter does
        traceback.print_exc()
        return 1
    return 0


def end(code: int) -> NoReturn:
    """Leave as the interpreter does, but for the half second that it takes to free all of torch."""
    atexit._run_exitfuncs()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


def loaded(cwd: str) -> list[str]:
    """Return the modules that this process has imported, but for those in its working directory."""
    modules = list(sys.modules.items())
    return [name for name, module in modules if not str(getattr(module, "__file__", None) or "").startswith(cwd)]


def import_all(names: list[str]) -> None:
    """Import what a child needed, so that the next one need not."""
    for name in names:
        if name not in sys.modules and "__" not in name:
            with suppress(Exception):
                import_module(name)
    gc.freeze()


def serve() -> None:
    """Answer requests until standard input ends; the studies of the runs are written without waiting for the disk."""
    import_all(
        [
            "unsynced",
            "latency_here",
            "qanas.cli",
            "qanas.recipe",
            "qanas.reporting.report",
            "qanas.tasks.turbofan",
            "qanas.workflows.run",
        ]
    )
    for line in sys.stdin:
        request = json.loads(line)
        reader, writer = os.pipe()
        child = os.fork()
        if child == 0:
            os.close(reader)
            try:
                become(request, writer)
            except BaseException:  # noqa: BLE001 - what was forked must not go on as the interpreter would
                traceback.print_exc()
                sys.stderr.flush()
                os._exit(1)
        os.close(writer)
        with os.fdopen(reader) as names:
            told = names.read()
        _, status = os.waitpid(child, 0)
        import_all(json.loads(told or "[]"))
        print(json.dumps(os.waitstatus_to_exitcode(status)), flush=True)  # noqa: T201 - the protocol


if __name__ == "__main__":
    serve()
