"""The contract of a store that several coordinators share."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path

from qanas.core.candidate import Candidate
from qanas.core.measures import Cost, Limit, Score
from qanas.core.trials import TrialRecord
from qanas.execution.interrupts import interrupts_deferred
from qanas.planning.sharing import SharedStudy
from qanas.search_space.settings import Integer
from qanas.search_space.space import SearchSpace, space_of
from qanas.search_space.start import Proposal
from qanas.testing.properties import expect, hold, refusal
from qanas.workflows.coordinators import BEATS, Session, members_of
from qanas.workflows.shared_store import SharedTrialStore
from qanas.workflows.storages import Patient

AXES = (Score("error"),)
LIMITS = (Limit(Cost("macs"), 8.0),)
FACTS = {"made_from": "these properties"}
PATIENT_S = 3600.0
"""A lease within which none of the coordinators here is given up by itself."""

MANY = 3


class StoreCase:
    """Coordinators at one store, each property with a study of its own.

    Args:
        shared: the store; names of studies are made here.
        folder: where coordinators have their folders.
    """

    def __init__(self, shared: SharedStudy, folder: Path) -> None:
        """Start with nobody."""
        self.shared = replace(shared, lease=PATIENT_S)
        self.folder = folder
        self._studies = 0
        self._patients = [Patient(self.shared, _unsaid) for _ in range(MANY)]  # to open one takes half a second
        self.space: SearchSpace = space_of(
            [Integer(f"width_{layer}", "architecture", 2, low=1, high=9) for layer in range(2)], ["architecture"]
        )

    @contextmanager
    def coordinators(self, count: int = 2) -> Iterator[list[Session]]:
        """Give some coordinators at a new study."""
        self._studies += 1
        shared = replace(self.shared, name=f"{self.shared.name}-{self._studies}")
        sessions = [self.join(shared, number) for number in range(count)]
        try:
            yield sessions
        finally:
            for session in sessions:
                session.__exit__(None, None, None)

    def join(self, shared: SharedStudy, number: int) -> Session:
        """Return the coordinator of a folder with a number."""
        folder = self.folder / str(number)
        folder.mkdir(exist_ok=True)
        return Session(shared, self._patients[number], folder, 1)

    def store(self, session: Session) -> SharedTrialStore:
        """Return the trials as a coordinator sees them."""
        return SharedTrialStore(session, FACTS, AXES, LIMITS)

    def proposal(self, width: int) -> Proposal:
        """Return a candidate."""
        return Proposal(Candidate(architecture={"width_0": width, "width_1": 1}))

    def train(self, store: SharedTrialStore, index: int, width: int) -> TrialRecord:
        """Claim an index, train a candidate for it, and return the record, which isn't told yet."""
        proposal = self.proposal(width)
        expect(store.claim(index), f"index {index} can't be claimed")
        expect(store.begin(self.space, index, proposal, (str(width), "")), f"index {index} can't be begun")
        return TrialRecord(index, "measured", proposal.candidate.config, {"macs": 1.0}, {"error": float(width)})


def _unsaid(text: str) -> None:
    del text


def taken_for_dead(one: Session, by: Session) -> None:
    """Let a coordinator see that another one doesn't beat."""
    for _ in range(BEATS + 1):
        by.coordinators._look(by.patient(partial(members_of, study=by.units)))
    assert by.coordinators.is_dead(one.name)  # noqa: S101 - a defect of this file


def check_store(shared: SharedStudy, folder: Path) -> None:
    """Hold a store against its contract, see `qanas.execution.sharing` and `qanas.workflows.shared_store`.

    Args:
        shared: the store; studies are added to it.
        folder: an empty one.

    Raises:
        AssertionError: one line: which property is broken first, and what was seen.
    """
    hold(shared.kind, StoreCase(shared, folder), PROPERTIES)


def one_at_a_time_has_a_unit(case: StoreCase) -> None:
    """A unit is handed to one coordinator, again only if that one gives it back, never once it is finished."""
    with case.coordinators() as (one, other):
        expect(one.leases.claim("a"), "the first can't claim")
        expect(not other.leases.claim("a"), "two have one unit")
        one.leases.release("a")
        other.leases.refresh()
        expect(other.leases.claim("a"), "what was given back can't be claimed")
        expect(other.leases.finish("a", {"found": 1}), "what it holds it can't finish")
        expect(one.leases.results() == {"a": {"found": 1}}, f"the other knows of {one.leases.results()}")
        expect(not one.leases.claim("a"), "what is finished can be claimed")


def of_many_at_once_one_has_a_unit(case: StoreCase) -> None:
    """Of coordinators that claim the same unit at the same moment one gets it."""
    with case.coordinators(MANY) as sessions, interrupts_deferred():
        start, won = threading.Barrier(MANY), []

        def claim(session: Session) -> None:
            start.wait()
            won.extend([session.name] * session.leases.claim("a"))

        threads = [threading.Thread(target=claim, args=(session,)) for session in sessions]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        expect(len(won) <= 1, f"{len(won)} of {MANY} have it")
        for session in sessions:
            session.leases.refresh()
        expect(won or any(session.leases.claim("a") for session in sessions), "nobody can have it")


def the_dead_hold_nothing(case: StoreCase) -> None:
    """What a coordinator held that was given up for dead can be claimed, and it can't finish that any more."""
    with case.coordinators() as (one, other):
        one.leases.claim("a")
        taken_for_dead(one, other)
        other.leases.refresh()
        expect(other.leases.claim("a"), "it can't be claimed")
        expect(not one.leases.finish("a"), "both can finish it")


def who_comes_back_holds_nothing(case: StoreCase) -> None:
    """A coordinator that was killed and is started again in its folder frees at once what it held."""
    with case.coordinators() as (one, other):
        one.leases.claim("a")
        again = case.join(one.shared, 0)
        other.leases.refresh()
        expect(again.name == one.name, "it has another name")
        expect(other.leases.claim("a"), "its unit can't be claimed")
        again.__exit__(None, None, None)


def who_leaves_holds_nothing(case: StoreCase) -> None:
    """A coordinator that ends gives back what it holds."""
    with case.coordinators() as (one, other):
        one.leases.claim("a")
        one.__exit__(None, None, None)
        other.leases.refresh()
        expect(other.leases.claim("a"), "it can't be claimed")


def trials_are_everybodys(case: StoreCase) -> None:
    """What one measured or rejected the others know when they ask, once, and so do their samplers."""
    with case.coordinators() as (one, other):
        first, second = case.store(one), case.store(other)
        record = case.train(first, 0, 3)
        rejected = TrialRecord(1, "rejected", case.proposal(9).candidate.config, {"macs": 9.0}, blamed="macs",
                               feasible=False)  # fmt: skip
        expect(not second.news() and set(second.held) == {0}, f"before it ends: {second.held} are held")
        expect(set(second.elsewhere) == {("3", "")}, f"others are said to train {second.elsewhere}")
        expect(first.tell(case.space, None, record), "it isn't taken")
        expect(first.tell(case.space, None, rejected), "a rejected one isn't taken")
        news = second.news()
        expect([(found.index, found.outcome) for found in news] == [(0, "measured"), (1, "rejected")], f"{news}")
        expect(not second.news() and not first.news(), "it is news twice")
        expect(first.records == second.records == case.store(other).records, "they know different trials")
        settings = [trial.params for trial in second.study.trials]
        expect(settings == [trial.params for trial in first.study.trials], f"samplers know of {settings}")
        expect(not second.held, f"{second.held} are held after the end")
        expect(not second.claim(0), "a counted index can be claimed")


def a_training_is_done_once(case: StoreCase) -> None:
    """Of two coordinators that want to train the same, the first does; the other is told, and keeps its index."""
    with case.coordinators() as (one, other):
        first, second = case.store(one), case.store(other)
        case.train(first, 1, 3)
        expect(second.claim(2), "another index can't be claimed")
        expect(not second.begin(case.space, 2, case.proposal(3), ("3", "")), "both train it")
        expect(second.holds(2), "the index is lost")
        expect(second.begin(case.space, 2, case.proposal(4), ("4", "")), "it can't train another one")


def a_trial_counts_once(case: StoreCase) -> None:
    """Of one given up for dead and the one that does its index again, whoever ends first counts, and the other not."""
    for ends_first in (False, True):
        with case.coordinators() as (one, other):
            first, second = case.store(one), case.store(other)
            record = case.train(first, 0, 3)
            taken_for_dead(one, other)
            second.news()
            if ends_first:
                expect(first.tell(case.space, None, record), "it held the index, and isn't taken")
                expect(not second.claim(0), "what is counted can be claimed")
            else:
                again = case.train(second, 0, 3)
                expect(not first.tell(case.space, None, record), "both are taken")
                expect(second.tell(case.space, None, again), "neither is taken")
            for store in (first, second):
                store.news()
                expect([found.index for found in store.records] == [0], f"known are {store.records}")


def another_run_is_refused(case: StoreCase) -> None:
    """Who doesn't agree on what is searched is refused in one line."""
    with case.coordinators() as (one, other):
        case.store(one)
        said = refusal(Exception, lambda: SharedTrialStore(other, {"made_from": "x"}, AXES, LIMITS), "another run")
        expect("is of another run (made_from is these properties, here x)" in said, said)


PROPERTIES: tuple[Callable[[StoreCase], None], ...] = (
    one_at_a_time_has_a_unit,
    of_many_at_once_one_has_a_unit,
    the_dead_hold_nothing,
    who_comes_back_holds_nothing,
    who_leaves_holds_nothing,
    trials_are_everybodys,
    a_training_is_done_once,
    a_trial_counts_once,
    another_run_is_refused,
)
"""What a store owes those who share it."""
