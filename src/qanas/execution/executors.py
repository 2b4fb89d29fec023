"""Units of work, and executors that run them: here, or in worker processes of one thread each."""

from __future__ import annotations

import logging
import multiprocessing as mp
import os
import pickle
import sys
import threading
import traceback
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from multiprocessing.reduction import ForkingPickler
from types import ModuleType, TracebackType
from typing import Any, ClassVar, Generic, Self, TypeVar

import torch

from qanas.core.errors import InputError, TrainingFailed, described, told
from qanas.core.events import Event, Watch
from qanas.core.own_modules import OURS
from qanas.execution.interrupts import interrupts_ignored

logger = logging.getLogger("qanas")

C = TypeVar("C")
R = TypeVar("R")

ATTEMPTS = 3
"""How often a unit is run whose worker dies: something may have killed the worker, or the unit kills every worker."""

STARTS = 20
"""How many workers a unit is given that somebody kills before they begin with it, which is not the unit's fault."""

KILLED = -9
"""The exit code of a process that SIGKILL ended."""

END_S = 5.0
"""Seconds that a worker has to end by itself; one that is stopped, or whose code holds the signal, never would."""


class Unit(ABC, Generic[C, R]):
    """A piece of work: picklable, and its result depends on it and on what it works on alone."""

    @abstractmethod
    def run(self, bench: C, watch: Watch) -> R:
        """Do the work.

        Args:
            bench: what all units of an executor work on.
            watch: told how far the work has come; where it says stop, what there is so far is the result.
        """


@dataclass(frozen=True)
class Failure:
    """Why a unit has no result.

    Attributes:
        reason: one line.
        trace: of an error that nobody expected; empty otherwise.
    """

    reason: str
    trace: str = ""

    @classmethod
    def of(cls, error: BaseException) -> Failure:
        """Return what an error tells."""
        if isinstance(error, TrainingFailed):
            return cls(told(error))
        return cls(described(error), "".join(traceback.format_exception(error)))

    def log(self) -> None:
        """Write the traceback, if there is one, to the log; workers have none."""
        if self.trace:
            logger.error("%s", self.trace)


def attempt(work: Callable[[], R]) -> R | Failure:
    """Return the result of some work, or why it has none."""
    try:
        return work()
    except KeyboardInterrupt:
        raise
    except BaseException as error:  # noqa: BLE001 - a defect in one unit must not lose the others
        return Failure.of(error)


WatchUnit = Callable[[Unit[Any, Any], Event], bool]
"""Told of every event of a unit; whether the unit is to go on."""


class Executor(ABC, Generic[C, R]):
    """Runs units; used as a context manager."""

    @property
    @abstractmethod
    def room(self) -> int:
        """How many further units it takes now."""

    @abstractmethod
    def submit(self, unit: Unit[C, R]) -> None:
        """Take a unit; only where there is `room`."""

    @abstractmethod
    def next_finished(self) -> tuple[Unit[C, R], R | Failure]:
        """Wait for a unit to end and return it with its result."""

    def work_off(self, units: Sequence[Unit[C, R]]) -> Iterator[tuple[Unit[C, R], R | Failure]]:
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


class InlineExecutor(Executor[C, R]):
    """Runs units in this process, one at a time.

    While it is open torch has one thread, as in a worker: with several, sums round otherwise.

    Args:
        bench: what units work on.
        watch: told of every event.
    """

    def __init__(self, bench: C, watch: WatchUnit) -> None:
        """Start."""
        self._bench = bench
        self._watch = watch
        self._queue: deque[Unit[C, R]] = deque()
        self._threads = torch.get_num_threads()
        torch.set_num_threads(1)

    @property
    def room(self) -> int:
        """One where it has none."""
        return 1 - len(self._queue)

    def submit(self, unit: Unit[C, R]) -> None:
        """Take a unit."""
        self._queue.append(unit)

    def next_finished(self) -> tuple[Unit[C, R], R | Failure]:
        """Run the unit."""
        unit = self._queue.popleft()
        result = attempt(partial(unit.run, self._bench, partial(self._watch, unit)))
        if isinstance(result, Failure):
            result.log()
        return unit, result

    def close(self) -> None:
        """Give torch its threads back."""
        torch.set_num_threads(self._threads)


@dataclass
class _Worker:
    """A process and the pipe to it.

    Attributes:
        process: of the worker.
        connection: to it.
        units: that it was given.
    """

    process: BaseProcess
    connection: Connection
    units: int = 0


@dataclass
class _Busy(Generic[C, R]):
    """A unit at work.

    Attributes:
        worker: that has it.
        unit: the unit.
        suspect: deaths of workers that it may have caused.
        given: how often it was given to a worker, this one included.
        begun: whether the worker has begun with it.
    """

    worker: _Worker
    unit: Unit[C, R]
    suspect: int = 0
    given: int = 1
    begun: bool = False


class ProcessExecutor(Executor[C, R]):
    """Runs units in worker processes.

    A worker that dies is replaced, and its unit is run again; one that loses `ATTEMPTS` workers fails. Workers end with
    this process, however that ends. A watch's stop reaches a worker at one of its unit's next events.

    Args:
        bench: what units work on; each worker gets a copy.
        jobs: workers.
        watch: told of every event.
    """

    def __init__(self, bench: C, jobs: int, watch: WatchUnit) -> None:
        """Start; workers are started when they are needed."""
        self._jobs = jobs
        self._bench = bench
        self._watch = watch
        self._context = mp.get_context("spawn")
        self._idle: list[_Worker] = []
        self._busy: dict[Connection, _Busy[C, R]] = {}

    def _start(self) -> _Worker:
        ours, theirs = self._context.Pipe()
        process = self._context.Process(target=_work, args=(self._bench, theirs), daemon=True)
        # Ctrl-C reaches the whole process group; the main process decides what becomes of it. What is ignored
        # when a process starts stays so, even while it still imports.
        with interrupts_ignored(), _main_module_hidden(), _sending():
            process.start()
        theirs.close()
        return _Worker(process, ours)

    @property
    def room(self) -> int:
        """Workers without a unit."""
        return self._jobs - len(self._busy)

    def submit(self, unit: Unit[C, R]) -> None:
        """Give a unit to an idle worker."""
        self._give(unit, 0, 1)

    def _give(self, unit: Unit[C, R], suspect: int, given: int) -> None:
        with _sending():
            content = bytes(ForkingPickler.dumps(unit))
        worker = self._idle.pop() if self._idle else self._start()
        try:
            worker.connection.send((worker.units + 1, content))
        except ConnectionError:  # it died while it was idle
            worker.process.join()
            worker.connection.close()
            self._give(unit, suspect, given)
            return
        worker.units += 1
        self._busy[worker.connection] = _Busy(worker, unit, suspect, given)

    def next_finished(self) -> tuple[Unit[C, R], R | Failure]:
        """Wait for any worker to end its unit."""
        while True:
            for ready in wait(list(self._busy)):
                assert isinstance(ready, Connection)  # noqa: S101 - nothing else was waited for
                finished = self._receive(ready)
                if finished is not None:
                    return finished

    def _receive(self, connection: Connection) -> tuple[Unit[C, R], R | Failure] | None:
        worker, unit = (busy := self._busy[connection]).worker, busy.unit
        try:
            kind, *content = connection.recv()
        except (EOFError, OSError):  # the second where it died in the middle of a long result
            worker.process.join()
            del self._busy[connection]
            reason = f"the worker process ended with exit code {worker.process.exitcode}"
            if worker.process.exitcode == KILLED:
                reason += " (killed, as the system does where memory runs out: fewer jobs take less)"
            killed = worker.process.exitcode is not None and worker.process.exitcode < 0
            suspect = busy.suspect + (busy.begun or not killed)
            if suspect >= ATTEMPTS or busy.given >= STARTS:
                return unit, Failure(reason)
            logger.warning("%s; its unit is run again", reason)
            self._give(unit, suspect, busy.given + 1)
            return None
        if kind == "begun":
            busy.begun = True
            return None
        if kind == "event":
            if not self._watch(unit, *content):
                with suppress(ConnectionError):  # it is dead, which is seen next
                    connection.send((worker.units, None))
            return None
        (result,) = content
        if isinstance(result, Failure):
            result.log()
        del self._busy[connection]
        self._idle.append(worker)
        return unit, result

    def close(self) -> None:
        """End the workers at once; what they were working on is lost."""
        workers = [*self._idle, *(busy.worker for busy in self._busy.values())]
        for worker in workers:
            worker.process.terminate()
        for worker in workers:
            worker.process.join(END_S)
            worker.process.kill()
            worker.process.join()
            worker.connection.close()
        self._idle, self._busy = [], {}


@contextmanager
def _sending() -> Iterator[None]:
    """Tell in a line what can't be given to a worker process, such as a user's class that holds an open file.

    Raises:
        InputError: says what, and the mend.
    """
    try:
        yield
    except OSError:  # there is no room for a process
        raise
    except Exception as error:
        reason = f"what is trained can't be given to other processes ({described(error, OURS, mp.__path__[0])})"
        raise InputError(
            f"estimation.jobs: {reason}: let your classes hold no lambda, lock or open file, or set it to 1"
        ) from error


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


def _work(bench: Any, connection: Connection) -> None:  # noqa: ANN401 - whatever the units work on
    """Be a worker: run what comes through the pipe until it breaks.

    What comes is the number of a unit with the unit, or without one where it is to stop.
    """
    threading.Thread(target=_end_with_parent, daemon=True).start()
    torch.set_num_threads(1)
    running, stopped = 0, 0

    def watch(event: Event) -> bool:
        nonlocal stopped
        connection.send(("event", event))
        while connection.poll():
            stopped, _ = connection.recv()
        return stopped != running

    try:
        while True:
            number, content = connection.recv()
            if content is None:  # of one that had ended by then
                continue
            running = number
            connection.send(("begun",))
            connection.send_bytes(_packed(attempt(partial(_run, content, bench, watch))))
    except (EOFError, ConnectionError, OSError):
        return


def _run(content: bytes, bench: Any, watch: Watch) -> Any:  # noqa: ANN401 - whatever the unit returns
    """Run a unit that came through the pipe."""
    return pickle.loads(content).run(bench, watch)  # noqa: S301 - our own


def _packed(result: Any) -> bytes:  # noqa: ANN401 - whatever the unit returns
    """Return a result as the main process reads it; of one that can't be sent, why."""
    found = attempt(lambda: bytes(ForkingPickler.dumps(("result", result))))
    return bytes(ForkingPickler.dumps(("result", found))) if isinstance(found, Failure) else found


def _end_with_parent() -> None:
    """End this process as soon as the main one is gone, in the middle of an epoch too."""
    parent = mp.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)


@dataclass(frozen=True)
class Engine:
    """Who runs units: this process, or worker processes of it; picklable.

    Another engine is a subclass. What it gives passes `qanas.testing.check_executor`.
    """

    remote: ClassVar[bool] = False
    """Whether units run on other machines, too, which don't see this one's memory and files."""

    def executor(self, bench: C, jobs: int, watch: WatchUnit) -> Executor[C, Any]:
        """Return an executor for ``jobs`` units at a time; one at a time where this process may have no children."""
        if jobs > 1 and mp.current_process().daemon:
            logger.warning("jobs = %d, but a worker of a pool may have none of its own: one at a time", jobs)
            jobs = 1
        return InlineExecutor(bench, watch) if jobs == 1 else ProcessExecutor(bench, jobs, watch)


LOCAL = Engine()
