"""Which paths a supernet is trained on."""

from collections import Counter

import torch
from hypothesis import given
from hypothesis import strategies as st

from qanas.supernet.paths import SAMPLERS, strictly_fair_paths, uniform_paths

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
