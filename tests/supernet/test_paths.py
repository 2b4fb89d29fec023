"""Which paths a supernet is trained on."""

from collections import Counter

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from qanas.supernet.paths import SAMPLERS, CostWindows, strictly_fair_paths, uniform_paths

OPTIONS = st.lists(st.integers(1, 6), min_size=1, max_size=5)


@given(OPTIONS, st.integers(0, 1000))
def test_every_path_has_one_option_a_layer(options: list[int], seed: int) -> None:
    for sample in SAMPLERS.values():
        for path in sample(options, torch.Generator().manual_seed(seed)):
            assert len(path) == len(options)
            assert all(0 <= chosen < count for chosen, count in zip(path, options, strict=True))


@given(st.integers(1, 6), st.integers(1, 5), st.integers(0, 1000))
def test_fair_paths_use_every_option_once(count: int, depth: int, seed: int) -> None:
    paths = strictly_fair_paths([count] * depth, torch.Generator().manual_seed(seed))
    assert [sorted(layer) for layer in zip(*paths, strict=True)] == [list(range(count))] * depth


def test_a_layer_with_fewer_options_uses_them_equally_often_in_the_end() -> None:
    generator = torch.Generator().manual_seed(0)
    used = Counter(path[1] for _ in range(600) for path in strictly_fair_paths((3, 2), generator))
    assert sum(used.values()) == 1800
    assert abs(used[0] - used[1]) < 120  # within five standard deviations of a fair coin


def test_uniform_paths_are_one_at_a_time() -> None:
    generator = torch.Generator().manual_seed(0)
    paths = [uniform_paths((6, 6), generator) for _ in range(720)]
    assert all(len(entry) == 1 for entry in paths)
    counts = Counter(entry[0] for entry in paths)
    assert len(counts) == 36  # each of the 36 paths is missed with probability 1.5e-9


COSTS = tuple((1.0, 2.0, 4.0) for _ in range(8))


def drawn_costs(windows: CostWindows, count: int) -> list[float]:
    generator = torch.Generator().manual_seed(0)
    found = []
    for _ in range(count):
        (path,) = windows([3] * 8, generator)
        found.append(sum(own[chosen] for own, chosen in zip(COSTS, path, strict=True)))
    return found


def test_paths_are_drawn_by_their_cost() -> None:
    windows = CostWindows.between(COSTS, 11.5, 27.5, 4)
    costs = drawn_costs(windows, 200)
    assert min(costs) >= 12
    assert max(costs) <= 27
    shares = [sum(low < cost < low + 4 for cost in costs) for low in (11.5, 15.5, 19.5, 23.5)]
    assert min(shares) > 25, "each window is as likely, 50 of 200 paths"
    assert costs == drawn_costs(windows, 200)


def test_where_no_path_is_found_in_a_window_the_nearest_one_is_taken() -> None:
    costs = drawn_costs(CostWindows.between(COSTS, 8.0, 8.0, 1), 5)  # one path of 6,561
    assert max(costs) < 12
    for least, most in ((33.0, None), (None, 7.0), (20.0, 10.0)):
        with pytest.raises(ValueError, match="paths cost 8 to 32, none"):
            CostWindows.between(COSTS, least, most, 3)
