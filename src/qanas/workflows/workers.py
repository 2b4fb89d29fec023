"""Executors: units of work, run here or in worker processes of one thread each."""

from __future__ import annotations

import multiprocessing as mp
import os
import sys
import threading
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from pathlib import Path
from types import ModuleType, TracebackType
from typing import Any, Generic, Self, TypeVar

import torch

from qanas.workflows.interrupts import interrupts_ignored
from qanas.workflows.plan import Plan, Setup
from qanas.workflows.units import Failure, Unit, attempt

R = TypeVar("R")

OnUnitEpoch = Callable[[Unit[Any], int, int, float], None]
"""As `OnPartEpoch`, with the unit in front."""


class Executor(ABC, Generic[R]):
    """Runs units; used as a context manager."""

    @property
    @abstractmethod
    def room(self) -> int:
        """How many further units it takes now."""

    @abstractmethod
    def submit(self, unit: Unit[R]) -> None:
        """Take a unit; only where there is `room`."""

    @abstractmethod
    def next_finished(self) -> tuple[Unit[R], R | Failure]:
        """Wait for a unit to end and return it with its result."""

    def work_off(self, units: Sequence[Unit[R]]) -> Iterator[tuple[Unit[R], R | Failure]]:
        """Run units, the next one whenever there is room; yield each with its result as it ends."""
        waiting, running = deque(units), 0
        while waiting or running:
            while waiting and self.room:
                self.submit(waiting.popleft())
                running += 1
            yield self.next_finished()
            running -= 1

    def close(self) -> None:
        """End the workers."""

    def __enter__(self) -> Self:
        """Return itself."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """End the workers."""
        self.close()


class InlineExecutor(Executor[R]):
    """Runs units in this process, one at a time.

    Args:
        setup: what units work on.
        on_epoch: told after every epoch.
    """

    def __init__(self, setup: Setup, on_epoch: OnUnitEpoch) -> None:
        """Start."""
        self._setup = setup
        self._on_epoch = on_epoch
        self._queue: deque[Unit[R]] = deque()
        torch.set_num_threads(1)

    @property
    def room(self) -> int:
        """One where it has none."""
        return 1 - len(self._queue)

    def submit(self, unit: Unit[R]) -> None:
        """Take a unit."""
        self._queue.append(unit)

    def next_finished(self) -> tuple[Unit[R], R | Failure]:
        """Run the unit."""
        unit = self._queue.popleft()
        result = attempt(partial(unit.run, self._setup, partial(self._on_epoch, unit)))
        if isinstance(result, Failure):
            result.log()
        return unit, result


@dataclass
class _Worker:
    process: BaseProcess
    connection: Connection


class ProcessExecutor(Executor[R]):
    """Runs units in worker processes.

    A worker that dies fails its unit and is replaced. Workers end with this process, however that ends.

    Args:
        plan: what units work on.
        prepared: the folder of the prepared data, which the workers map; None: each loads the task's data.
        jobs: workers.
        on_epoch: told after every epoch.
    """

    def __init__(self, plan: Plan, prepared: Path | None, jobs: int, on_epoch: OnUnitEpoch) -> None:
        """Start; workers are started when they are needed."""
        self._jobs = jobs
        self._plan = plan
        self._prepared = prepared
        self._on_epoch = on_epoch
        self._context = mp.get_context("spawn")
        self._idle: list[_Worker] = []
        self._busy: dict[Connection, tuple[_Worker, Unit[R]]] = {}

    def _start(self) -> _Worker:
        ours, theirs = self._context.Pipe()
        process = self._context.Process(target=_work, args=(self._plan, self._prepared, theirs), daemon=True)
        # Ctrl-C reaches the whole process group; the main process decides what becomes of it. What is ignored
        # when a process starts stays so, even while it still imports.
        with interrupts_ignored(), _main_module_hidden():
            process.start()
        theirs.close()
        return _Worker(process, ours)

    @property
    def room(self) -> int:
        """Workers without a unit."""
        return self._jobs - len(self._busy)

    def submit(self, unit: Unit[R]) -> None:
        """Give a unit to an idle worker."""
        worker = self._idle.pop() if self._idle else self._start()
        try:
            worker.connection.send(unit)
        except ConnectionError:  # it died while it was idle
            worker = self._start()
            worker.connection.send(unit)
        self._busy[worker.connection] = (worker, unit)

    def next_finished(self) -> tuple[Unit[R], R | Failure]:
        """Wait for any worker to end its unit."""
        while True:
            for ready in wait(list(self._busy)):
                assert isinstance(ready, Connection)  # noqa: S101 - nothing else was waited for
                finished = self._receive(ready)
                if finished is not None:
                    return finished

    def _receive(self, connection: Connection) -> tuple[Unit[R], R | Failure] | None:
        worker, unit = self._busy[connection]
        try:
            kind, *content = connection.recv()
        except (EOFError, ConnectionError):
            worker.process.join()
            del self._busy[connection]
            return unit, Failure(f"the worker process ended with exit code {worker.process.exitcode}")
        if kind == "epoch":
            self._on_epoch(unit, *content)
            return None
        (result,) = content
        if isinstance(result, Failure):
            result.log()
        del self._busy[connection]
        self._idle.append(worker)
        return unit, result

    def close(self) -> None:
        """End the workers at once; what they were working on is lost."""
        for worker in [*self._idle, *(worker for worker, _ in self._busy.values())]:
            worker.process.terminate()
            worker.process.join()
            worker.connection.close()
        self._idle, self._busy = [], {}


@contextmanager
def _main_module_hidden() -> Iterator[None]:
    """Keep a process that is started inside from importing the main module.

    A script that calls ``qanas.run`` without a main guard would run again in every worker, and stop at the run's lock.
    Workers need nothing of it: a recipe names its classes by module.
    """
    main = sys.modules["__main__"]
    sys.modules["__main__"] = ModuleType("__main__")
    try:
        yield
    finally:
        sys.modules["__main__"] = main


def _work(plan: Plan, prepared: Path | None, connection: Connection) -> None:
    """Be a worker: map or load the data once, then run what comes through the pipe until it breaks."""
    threading.Thread(target=_end_with_parent, daemon=True).start()
    torch.set_num_threads(1)
    setup = Setup.load(plan) if prepared is None else Setup.map(plan, prepared)
    try:
        while True:
            unit: Unit[Any] = connection.recv()
            result = attempt(lambda: unit.run(setup, lambda *epoch: connection.send(("epoch", *epoch))))  # noqa: B023 - called at once
            connection.send(("result", result))
    except (EOFError, ConnectionError, OSError):
        return


def _end_with_parent() -> None:
    """End this process as soon as the main one is gone, in the middle of an epoch too."""
    parent = mp.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)


def make_executor(setup: Setup, jobs: int, on_epoch: OnUnitEpoch) -> Executor[Any]:
    """Return an executor for ``jobs`` units at a time."""
    return InlineExecutor(setup, on_epoch) if jobs == 1 else ProcessExecutor(setup.plan, setup.prepared, jobs, on_epoch)
