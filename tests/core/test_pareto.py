from itertools import combinations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from qanas.core.pareto import Points, hypervolume, non_dominated, spread

coordinates = st.integers(0, 6).map(float)


def point_sets(most: int, axes: tuple[int, int] = (1, 3)) -> st.SearchStrategy[Points]:
    shapes = st.tuples(st.integers(1, most), st.integers(*axes))
    return shapes.flatmap(lambda shape: arrays(np.float64, shape, elements=coordinates))


def dominates(one: Points, other: Points) -> bool:
    return bool(np.all(one <= other) and np.any(one < other))


def union_volume(losses: Points, reference: Points) -> float:
    """Inclusion-exclusion over the boxes between each point and the reference."""
    boxes = [point for point in losses if np.all(point < reference)]
    total = 0.0
    for size in range(1, len(boxes) + 1):
        for subset in combinations(boxes, size):
            corner = np.max(np.array(subset), axis=0)
            total += (-1.0) ** (size + 1) * float(np.prod(reference - corner))
    return total


@given(point_sets(24, (1, 4)))
def test_front_is_what_comparing_all_pairs_gives(losses: Points) -> None:
    expected = {tuple(p) for p in losses if not any(dominates(other, p) for other in losses)}
    front = non_dominated(losses)
    assert {tuple(losses[index]) for index in front} == expected
    assert len(front) == len(expected), "of equal points one stays"


@given(point_sets(24, (1, 4)))
def test_of_equal_points_the_first_one_stays_and_the_front_is_in_lexicographic_order(losses: Points) -> None:
    rows = [tuple(point) for point in losses]
    front = non_dominated(losses)
    assert all(rows.index(rows[index]) == index for index in front)
    assert [rows[index] for index in front] == sorted(rows[index] for index in front)


@pytest.mark.parametrize("axes", [1, 2, 3, 4])
def test_the_front_of_no_points_is_empty(axes: int) -> None:
    assert non_dominated(np.zeros((0, axes))).tolist() == []


@pytest.mark.parametrize(("axes", "least"), [(2, 200), (3, 1500)])
def test_the_front_of_many_points_that_lie_on_a_sphere_and_behind_it(axes: int, least: int) -> None:
    directions = np.abs(np.random.default_rng(0).normal(size=(least * 2, axes)))
    sphere = 1 - directions / np.linalg.norm(directions, axis=1, keepdims=True)
    points = np.concatenate([sphere, sphere + 0.25, sphere + 1e-6])
    assert sorted(non_dominated(points)) == list(range(len(sphere)))


@given(point_sets(7), st.integers(0, 8))
def test_hypervolume_is_that_of_the_union_of_boxes(losses: Points, bound: int) -> None:
    reference = bound + np.arange(losses.shape[1], dtype=np.float64)
    assert hypervolume(losses, reference.tolist()) == pytest.approx(union_volume(losses, reference), abs=1e-9)


@given(point_sets(8), st.integers(0, 7))
def test_hypervolume_never_falls_with_another_point_and_ignores_dominated_ones(losses: Points, which: int) -> None:
    reference = [7.0] * losses.shape[1]
    whole = hypervolume(losses, reference)
    without = hypervolume(np.delete(losses, which % len(losses), axis=0), reference)
    assert without <= whole
    assert hypervolume(losses[non_dominated(losses)], reference) == pytest.approx(whole)


def test_hypervolume_of_three_objectives_by_hand() -> None:
    # Boxes of volume 2 * 2 * 1 and 1 * 1 * 3 below (3, 3, 3), which share 1 * 1 * 1.
    assert hypervolume(np.array([[1.0, 1.0, 2.0], [2.0, 2.0, 0.0]]), [3.0, 3.0, 3.0]) == 6.0


@pytest.mark.parametrize("losses", [np.zeros((0, 2)), np.array([[3.0, 0.0]]), np.array([[9.0, 9.0]])])
def test_points_on_or_beyond_the_reference_add_nothing(losses: Points) -> None:
    assert hypervolume(losses, [3.0, 3.0]) == 0.0


@given(point_sets(15, (2, 3)), st.integers(1, 15))
def test_spread_chooses_as_many_as_asked_for_without_repeats(losses: Points, count: int) -> None:
    chosen = spread(losses, count)
    assert len(chosen) == min(count, len(losses)) == len(set(chosen.tolist()))
    assert np.all(np.diff(losses[chosen, 0]) >= 0), "in the order of the first coordinate"


@given(point_sets(15, (2, 3)), st.integers(3, 15))
def test_spread_includes_the_best_of_every_coordinate(losses: Points, count: int) -> None:
    chosen = losses[spread(losses, count)]
    assert np.array_equal(chosen.min(axis=0), losses.min(axis=0))


def test_spread_takes_the_point_farthest_from_the_extremes() -> None:
    line = np.array([[0.0, 10.0], [1.0, 9.0], [5.0, 5.0], [9.0, 1.0], [10.0, 0.0]])
    assert spread(line, 3).tolist() == [0, 2, 4]


def test_spread_does_not_depend_on_the_units_of_the_coordinates() -> None:
    front = np.array([[0.0, 9.0], [1.0, 6.0], [2.0, 5.0], [7.0, 1.0], [9.0, 0.0]])
    for count in range(1, 6):
        assert spread(front, count).tolist() == spread(front * [1e-6, 1e6], count).tolist()
