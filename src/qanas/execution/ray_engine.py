"""Units of work on the machines of a Ray cluster."""

from __future__ import annotations

import logging
import pickle
import sys
import time
import warnings
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, ClassVar, TypeVar

import torch

from qanas.core.errors import InputError, described
from qanas.core.events import Event
from qanas.execution.executors import ATTEMPTS, Engine, Executor, Failure, Unit, WatchUnit, attempt

logger = logging.getLogger("qanas")

C = TypeVar("C")
R = TypeVar("R")

LOOK_S = 0.1
"""Seconds between looks at what units tell, and between a unit's letters: each costs both sides a process's attention,
and a training may have a thousand events a second."""


@dataclass(frozen=True)
class RayEngine(Engine):
    """A Ray cluster, to which this machine belongs, runs units.

    Attributes:
        address: of the cluster, as ``ray.init`` takes it; ``auto``: the one that this machine belongs to.
        cpus: that a unit takes.
        gpus: likewise.
        resources: likewise, of the cluster's own names, such as ``board``.
    """

    address: str = "auto"
    cpus: float = 1.0
    gpus: float = 0.0
    resources: Mapping[str, float] = field(default_factory=dict)

    remote: ClassVar[bool] = True

    def executor(self, bench: C, jobs: int, watch: WatchUnit) -> Executor[C, Any]:
        """Return an executor for ``jobs`` units at a time."""
        return RayExecutor(bench, jobs, watch, self)


def _ray(address: str) -> Any:  # noqa: ANN401 - a module that may not be there
    """Return Ray, connected.

    Raises:
        InputError: it isn't installed, or there is no cluster.
    """
    try:
        import ray
    except ImportError as error:
        raise InputError("execution.engine: needs Ray; install it with: pip install 'qanas[ray]'") from error
    if not ray.is_initialized():
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                ray.init(address=address, log_to_driver=False, logging_level=logging.WARNING, configure_logging=False)
        except (ConnectionError, OSError, RuntimeError, ValueError) as error:
            raise InputError(
                f"execution.address: no Ray cluster at '{address}' ({described(error)}); run: ray start --head"
            ) from error
    return ray


class Mailbox:
    """An actor of the cluster that takes what units tell, and gives it to the coordinator."""

    def __init__(self) -> None:
        """Start with nothing."""
        self._events: list[tuple[int, Event]] = []
        self._stopped: set[int] = set()

    def put(self, number: int, events: Sequence[Event]) -> bool:
        """Take events of a unit, in their order, and return whether it is to go on."""
        self._events += [(number, event) for event in events]
        return number not in self._stopped

    def take(self) -> list[tuple[int, Event]]:
        """Give what came since, in its order."""
        events, self._events = self._events, []
        return events

    def stop(self, number: int) -> None:
        """Let a unit stop at one of its next events."""
        self._stopped.add(number)


class RayExecutor(Executor[C, R]):
    """Runs units as tasks of a Ray cluster; what they work on is put into its object store once.

    A unit whose worker or machine dies is run again elsewhere by Ray; one that loses `ATTEMPTS` workers fails. What
    units read and leave as files is in a folder that all machines see at the same place, see ``docs/scale.md``.

    Args:
        bench: what units work on.
        jobs: units at a time.
        watch: told of every event.
        engine: where the cluster is, and what a unit takes of it.
    """

    def __init__(self, bench: C, jobs: int, watch: WatchUnit, engine: RayEngine) -> None:
        """Connect, and put the bench where all workers find it."""
        self._ray = _ray(engine.address)
        from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

        here = NodeAffinitySchedulingStrategy(self._ray.get_runtime_context().get_node_id(), soft=True)
        self._mailbox = self._ray.remote(num_cpus=0, max_restarts=-1, scheduling_strategy=here)(Mailbox).remote()
        self._work = self._ray.remote(
            num_cpus=engine.cpus,
            num_gpus=engine.gpus,
            resources=dict(engine.resources),
            max_retries=ATTEMPTS - 1,
        )(_work)
        self._bench = self._ray.put(bench)
        self._jobs = jobs
        self._watch = watch
        self._given = 0
        self._tasks: dict[Any, int] = {}
        self._units: dict[int, Unit[C, R]] = {}

    @property
    def room(self) -> int:
        """Units that can be given away besides those that are."""
        return self._jobs - len(self._tasks)

    def submit(self, unit: Unit[C, R]) -> None:
        """Give a unit to the cluster."""
        self._given += 1
        content = pickle.dumps(unit)
        task = self._work.remote(sys.path, [self._bench], content, self._given, self._mailbox)
        self._tasks[task], self._units[self._given] = self._given, unit

    def next_finished(self) -> tuple[Unit[C, R], R | Failure]:
        """Wait for any unit to end."""
        while True:
            done, _ = self._ray.wait(list(self._tasks), timeout=LOOK_S)
            self._tell()
            if done:
                unit = self._units.pop(self._tasks.pop(done[0]))
                return unit, self._result(done[0])

    def _result(self, task: Any) -> R | Failure:  # noqa: ANN401 - Ray's reference
        from ray.exceptions import RayError

        try:
            result: R | Failure = self._ray.get(task)
        except RayError as error:
            return Failure(f"its worker or machine ended {ATTEMPTS} times: {described(error).splitlines()[0]}")
        if isinstance(result, Failure):
            result.log()
        return result

    def _tell(self) -> None:
        """Tell the watch what units told since."""
        from ray.exceptions import RayError

        with suppress(RayError):  # the mailbox's machine died: what was in it is lost, no result is
            for number, event in self._ray.get(self._mailbox.take.remote()):
                unit = self._units.get(number)
                if unit is not None and not self._watch(unit, event):
                    self._mailbox.stop.remote(number)

    def close(self) -> None:
        """End what is at work; the cluster stays."""
        for task in self._tasks:
            self._ray.cancel(task, force=True)
        self._tasks, self._units = {}, {}
        if self._mailbox is not None:
            self._ray.kill(self._mailbox)
            self._mailbox, self._bench = None, None


_bench: dict[str, Any] = {}
"""In a worker: what units work on, kept from one to the next, by its name in the object store."""


def _work(path: list[str], bench: list[Any], content: bytes, number: int, mailbox: Any) -> Any:  # noqa: ANN401 - Ray's
    """Be a worker: run a unit."""
    import ray
    from ray.exceptions import RayError

    sys.path.extend(entry for entry in path if entry not in sys.path)
    torch.set_num_threads(1)
    name = bench[0].hex()
    if name not in _bench:
        _bench.clear()
        _bench[name] = ray.get(bench[0])
    letters = _Letters(ray, mailbox, number)

    def run() -> Any:  # noqa: ANN401 - whatever the unit returns
        return pickle.loads(content).run(_bench[name], letters.watch)  # noqa: S301 - our own

    result = attempt(run)
    with suppress(RayError):
        letters.send_last()
    return result


class _Letters:
    """What a unit tells the mailbox: its events, several to a letter.

    Args:
        ray: the module.
        mailbox: of the executor.
        number: of the unit.
    """

    def __init__(self, ray: Any, mailbox: Any, number: int) -> None:  # noqa: ANN401 - Ray's
        """Have nothing to tell."""
        self._ray, self._mailbox, self._number = ray, mailbox, number
        self._waiting: list[Event] = []
        self._sent: list[Any] = []
        self._next = 0.0

    def watch(self, event: Event) -> bool:
        """Take an event, and return whether the unit is to go on, as far as the answers to earlier letters say."""
        from ray.exceptions import RayError

        self._waiting.append(event)
        if time.monotonic() < self._next:
            return True
        self._send()
        known, self._sent = self._ray.wait(self._sent, num_returns=len(self._sent), timeout=0)
        with suppress(RayError):
            return all(self._ray.get(known))
        return True

    def _send(self) -> None:
        self._sent.append(self._mailbox.put.remote(self._number, self._waiting))
        self._waiting = []
        self._next = time.monotonic() + LOOK_S

    def send_last(self) -> None:
        """Send what is left, and wait until all of it is there."""
        if self._waiting:
            self._send()
        self._ray.get(self._sent)
