"""Solvers over tables of blocks: one contract for all, exactness of the one, the flaw of the other."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import product
from random import Random

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.typing import NDArray

from qanas.core.candidate import Candidate
from qanas.core.errors import InputError
from qanas.core.measures import Cost, Score
from qanas.core.pareto import Points
from qanas.search_space.additive import AdditiveScores, AdditiveTable
from qanas.search_strategy.base import FrontSolver
from qanas.search_strategy.solvers import DNATraversal, ExactSearch, traverse

SOLVERS: list[FrontSolver] = [ExactSearch(), DNATraversal(budgets=(3.0, 8.0, 12.0, 100.0))]
every_solver = pytest.mark.parametrize("solver", SOLVERS, ids=["exact", "dna"])

whole = st.integers(0, 4).map(float)
rounding = st.sampled_from([0.1, 0.2, 0.3, 0.7, 1e-9, 1e9, -0.1, 1 / 3])


def tables_of(
    elements: st.SearchStrategy[float], columns: tuple[int, int] = (2, 3), blocks: int = 4
) -> st.SearchStrategy[list[Points]]:
    """At most so many tables of one to five rows with the same number of columns."""

    def tables(width: int) -> st.SearchStrategy[list[Points]]:
        table = st.integers(1, 5).flatmap(lambda rows: arrays(np.float64, (rows, width), elements=elements))
        return st.lists(table, min_size=1, max_size=blocks)

    return st.integers(*columns).flatmap(tables)


def total(tables: list[Points], choice: tuple[int, ...]) -> tuple[float, ...]:
    """Add the chosen rows in the order of the blocks."""
    sums = [0.0] * tables[0].shape[1]
    for table, row in zip(tables, choice, strict=True):
        sums = [s + float(value) for s, value in zip(sums, table[row], strict=True)]
    return tuple(sums)


def dominates(one: tuple[float, ...], other: tuple[float, ...]) -> bool:
    return one != other and all(a <= b for a, b in zip(one, other, strict=True))


def brute_force(tables: list[Points]) -> dict[tuple[float, ...], tuple[int, ...]]:
    """Every non-dominated sum, sorted, with the first choice that gives it: all combinations against each other."""
    choices = product(*(range(len(table)) for table in tables))
    first: dict[tuple[float, ...], tuple[int, ...]] = {}
    for choice in choices:
        first.setdefault(total(tables, choice), choice)
    return {sums: first[sums] for sums in sorted(first) if not any(dominates(other, sums) for other in first)}


@every_solver
@given(tables_of(whole | rounding))
def test_every_solver_returns_sums_of_its_rows_none_of_which_dominates_another(
    solver: FrontSolver, tables: list[Points]
) -> None:
    front = solver.solve(tables)
    sums = [tuple(losses) for losses in front.losses]
    assert front.rows.shape == (len(sums), len(tables))
    assert sums == [total(tables, tuple(choice)) for choice in front.rows]
    assert sums == sorted(set(sums))
    assert not any(dominates(one, other) for one in sums for other in sums)
    again = solver.solve(tables)
    assert np.array_equal(front.losses, again.losses)
    assert np.array_equal(front.rows, again.rows)


@every_solver
@pytest.mark.parametrize(
    ("tables", "told"),
    [
        ([], "there are none"),
        ([np.zeros((1, 2)), np.zeros((0, 2))], "block 1 has no row"),
        ([np.zeros((1, 2)), np.zeros((1, 3))], "block 1 has 3 columns, block 0 has 2"),
        ([np.array([[0.0, 1.0], [np.nan, 1.0]])], "row 1 of block 0 isn't finite"),
        ([np.array([[0.0, np.inf]])], "row 0 of block 0 isn't finite"),
    ],
)
def test_tables_that_cannot_be_added_up_are_refused(solver: FrontSolver, tables: list[Points], told: str) -> None:
    with pytest.raises(InputError, match=told):
        solver.solve(tables)


@given(tables_of(whole, (1, 4)))
def test_exact_search_is_brute_force_and_of_equal_sums_the_first_choice_stays(tables: list[Points]) -> None:
    front = ExactSearch().solve(tables)
    expected = brute_force(tables)
    assert [tuple(losses) for losses in front.losses] == list(expected)
    assert [tuple(choice) for choice in front.rows.tolist()] == list(expected.values())


@given(tables_of(rounding), st.randoms(use_true_random=False))
def test_sums_that_round_are_brute_forces_whatever_the_order_of_the_rows(tables: list[Points], random: Random) -> None:
    expected = list(brute_force(tables))
    shuffled = [table[random.sample(range(len(table)), len(table))] for table in tables]
    assert [tuple(losses) for losses in ExactSearch().solve(tables).losses] == expected
    assert [tuple(losses) for losses in ExactSearch().solve(shuffled).losses] == expected


def grid_front(sums: Points, size: int) -> Points:
    """The front by another way: the best score at every cost, a whole number below ``size``, and at all lower ones."""
    axes = sums.shape[1] - 1
    best = np.full((size,) * axes, np.inf)
    np.minimum.at(best, tuple(sums[:, 1:].T.astype(np.intp)), sums[:, 0])
    so_far = best
    for axis in range(axes):
        so_far = np.minimum.accumulate(so_far, axis)
    on_front = np.isfinite(best)
    for axis in range(axes):
        beneath = np.roll(so_far, 1, axis)
        beneath[(slice(None),) * axis + (0,)] = np.inf
        on_front &= best < beneath
    cells = np.argwhere(on_front)
    points = np.column_stack([best[on_front], cells]).astype(np.float64)
    return points[np.argsort(points[:, 0])]


@pytest.mark.parametrize(("columns", "dearest"), [(2, 200), (3, 20)])
def test_exact_search_is_brute_force_on_ten_million_networks(columns: int, dearest: int) -> None:
    generator = np.random.default_rng(3)
    costs = [generator.integers(1, dearest + 1, (57, columns - 1)) for _ in range(4)]
    tables = [np.column_stack([generator.random(57) * (1 + 20 / cost[:, 0]), cost]) for cost in costs]
    sums = np.zeros((1, columns))
    for table in tables:
        sums = (sums[:, None] + table).reshape(-1, columns)
    assert len(sums) > 1e7
    front = ExactSearch().solve(tables)
    assert len(front.losses) > 50
    assert np.array_equal(front.losses, grid_front(sums, 4 * dearest + 1))


def mixed_precision_tables(columns: int) -> list[Points]:
    """Six blocks of 3, 3, 4, 4, 3, 1 layers, 6 operators a layer, 3 bit-widths a block: 7e16 networks."""
    generator = np.random.default_rng(7)
    rows = [3 * 6**layers for layers in (3, 3, 4, 4, 3, 1)]
    costs = [generator.integers(100, 1000, (count, columns - 1)) for count in rows]
    return [np.column_stack([np.rint(1e6 / c.sum(1) + generator.integers(0, 999, len(c))), c]) for c in costs]


def test_the_front_of_7e16_networks_depends_neither_on_the_order_of_blocks_nor_on_how_they_are_grouped() -> None:
    tables = mixed_precision_tables(columns=2)
    assert np.prod([float(len(table)) for table in tables]) > 7e16
    losses = ExactSearch().solve(tables).losses
    halves = [ExactSearch().solve(half).losses for half in (tables[:3], tables[3:])]
    assert np.array_equal(losses, ExactSearch().solve(tables[::-1]).losses)
    assert np.array_equal(losses, ExactSearch().solve(halves).losses)


@given(tables_of(whole), st.integers(-1, 17))
def test_any_budget_is_answered_from_the_front(tables: list[Points], budget: int) -> None:
    front = ExactSearch().solve(tables)
    choices = product(*(range(len(table)) for table in tables))
    within = [sums[0] for sums in (total(tables, choice) for choice in choices) if sums[1] <= budget]
    if within:
        chosen = front.losses[front.best_within(1, budget)]
        assert chosen[0] == min(within)
        assert chosen[1] <= budget
    else:
        with pytest.raises(
            InputError, match=rf"column 1 within {budget}: the least is {front.losses[:, 1].min():.15g}"
        ):
            front.best_within(1, budget)


def test_an_empty_front_answers_no_budget() -> None:
    front = DNATraversal(budgets=(0.0,)).solve([np.array([[1.0, 1.0]])])
    assert len(front.losses) == 0
    with pytest.raises(InputError, match="the front is empty"):
        front.best_within(1, 5.0)


# Traced by hand, budget 4. Row 0 of the first block: row 0 of the second costs too much; with its row 1, the first row
# of the third that fits is row 1 (score 5), so that from now on only row 0 is looked at there. Row 1 of the first
# block, row 0 of the second: now row 1 of the third would make 4, but was cut off.
CUT_TOO_SHORT: list[NDArray[np.float64]] = [
    np.array([[0.0, 2.0], [1.0, 1.0]]),
    np.array([[1.0, 2.0], [3.0, 1.0]]),
    np.array([[1.0, 2.0], [2.0, 1.0]]),
]


def test_dna_traversal_misses_the_best_network_of_an_instance() -> None:
    found = traverse(CUT_TOO_SHORT, budget=4.0)
    assert found is not None
    assert found.tolist() == [0, 1, 1]
    assert total(CUT_TOO_SHORT, tuple(found)) == (5.0, 4.0)
    front = ExactSearch().solve(CUT_TOO_SHORT)
    best = front.best_within(1, 4.0)
    assert front.rows[best].tolist() == [1, 0, 1]
    assert front.losses[best].tolist() == [4.0, 4.0]


@given(tables_of(whole), st.integers(0, 17))
def test_dna_traversal_keeps_the_budget_and_is_never_better_than_exact(tables: list[Points], budget: int) -> None:
    found = traverse(tables, budget)
    if found is not None:
        sums = total(tables, tuple(found))
        front = ExactSearch().solve(tables)
        assert sums[1] <= budget
        assert sums[0] >= front.losses[front.best_within(1, budget)][0]


@given(tables_of(whole, blocks=2), st.integers(0, 9))
def test_dna_traversal_is_exact_where_no_loop_lies_between_the_outermost_and_the_innermost(
    tables: list[Points], budget: int
) -> None:
    found = traverse(tables, budget)
    front = ExactSearch().solve(tables)
    if found is None:
        assert front.losses[:, 1].min() > budget
    else:
        assert total(tables, tuple(found))[0] == front.losses[front.best_within(1, budget)][0]


@dataclass
class Offered(AdditiveScores):
    """Two blocks of two rows, and a stem of 100 bytes."""

    axis = Score("nsr_sum")
    outside: Mapping[str, float] = field(default_factory=lambda: {"weight_bytes": 100.0})
    tables: Sequence[AdditiveTable] = field(default_factory=lambda: [
        AdditiveTable(np.arange(2), np.array([0.1, 0.3]), {"weight_bytes": np.array([8.0, 5.0])}) for _ in range(2)
    ])  # fmt: skip

    def candidate(self, rows: Sequence[int]) -> Candidate:
        return Candidate({"rows": str(list(rows))}, {}, {})


def test_a_budget_of_the_traversal_bounds_the_whole_network() -> None:
    measures = [Score("nsr_sum"), Cost("weight_bytes")]
    (found,) = DNATraversal(budgets=(114.0,)).front(Offered(), measures, ())
    assert found.costs["weight_bytes"] == 113.0
    with pytest.raises(InputError, match="no network was found within its budgets; raise them"):
        DNATraversal(budgets=(16.0,)).front(Offered(), measures, ())
    with pytest.raises(InputError, match=r"^strategy\.column = 2: there are 1 costs, weight_bytes$"):
        DNATraversal(budgets=(114.0,), column=2).check(measures, ())
