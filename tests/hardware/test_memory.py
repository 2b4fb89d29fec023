from dataclasses import replace
from itertools import permutations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from qanas.deployment.memory_plan import Allocation, plan_peak
from qanas.hardware.memory import peak_ram_bytes
from qanas.networks.lstm import LSTMNetwork
from qanas.quantization.program import aligned
from qanas.quantization.quantized_graph import QuantizedGraph
from qanas.quantization.scheme import Scheme
from qanas.quantization.tracing import trace


@st.composite
def allocations(draw: st.DrawFn) -> Allocation:
    first = draw(st.integers(0, 7))
    return Allocation(16 * draw(st.integers(1, 8)), first, first + draw(st.integers(0, 4)))


def live_bytes(entries: list[Allocation]) -> int:
    """The most bytes that are needed at one time."""
    return max(
        (sum(entry.size for entry in entries if entry.first <= step <= entry.last) for step in range(13)), default=0
    )


def best_peak(entries: list[Allocation]) -> int:
    """The smallest arena that placing in any order at the lowest free offset reaches."""

    def peak(order: tuple[Allocation, ...]) -> int:
        placed: list[tuple[int, Allocation]] = []
        for entry in order:
            taken = [(start, start + other.size) for start, other in placed if other.overlaps(entry)]
            offsets = [0, *(end for _, end in taken)]
            offset = min(o for o in offsets if all(o + entry.size <= start or o >= end for start, end in taken))
            placed.append((offset, entry))
        return max(offset + entry.size for offset, entry in placed)

    return min(peak(order) for order in permutations(entries))


@given(st.lists(allocations(), max_size=12))
def test_the_arena_is_at_least_what_lives_at_one_time_and_at_most_everything(entries: list[Allocation]) -> None:
    peak = plan_peak(entries)
    assert live_bytes(entries) <= peak <= sum(entry.size for entry in entries)


@settings(max_examples=40)
@given(st.lists(allocations(), min_size=1, max_size=5))
def test_the_arena_is_hardly_larger_than_the_best_one_of_all_orders(entries: list[Allocation]) -> None:
    best, peak = best_peak(entries), plan_peak(entries)
    assert live_bytes(entries) <= best <= peak <= 2 * best


@given(st.lists(allocations(), max_size=8), st.randoms(use_true_random=False))
def test_the_arena_does_not_shrink_with_another_allocation_at_every_time(
    entries: list[Allocation], random: object
) -> None:
    del random
    whole = Allocation(16, 0, 12)
    assert plan_peak([*entries, whole]) >= live_bytes(entries) + 16


@pytest.mark.parametrize(
    ("entries", "peak"),
    [
        ([], 0),
        ([Allocation(32, 0, 5)], 32),
        ([Allocation(32, 0, 1), Allocation(48, 2, 3)], 48),
        ([Allocation(32, 0, 2), Allocation(48, 2, 3)], 80),
        # 96 at the bottom, 64 above it, and 32 in the place of the 96 once that is gone
        ([Allocation(96, 0, 1), Allocation(64, 1, 3), Allocation(32, 2, 4)], 160),
        # of equally large ones the last is placed first: 3-5 at 0, then 1-2 at 0, 4-6 above; 16 above 1-2 and 3-5
        ([Allocation(32, 4, 6), Allocation(32, 1, 2), Allocation(16, 2, 3), Allocation(32, 3, 5)], 64),
        # a gap between two that live is used
        ([Allocation(64, 0, 1), Allocation(48, 0, 3), Allocation(32, 0, 3), Allocation(64, 2, 3)], 144),
    ],
)
def test_arenas_by_hand(entries: list[Allocation], peak: int) -> None:
    assert plan_peak(entries) == peak


@pytest.mark.parametrize(("size", "expected"), [(0, 0), (1, 16), (16, 16), (17, 32)])
def test_sizes_are_rounded_up_to_the_alignment(size: int, expected: int) -> None:
    assert aligned(size) == expected


def quantized(network: nn.Module, shape: tuple[int, ...]) -> QuantizedGraph:
    return QuantizedGraph.from_shapes(trace(network, shape), Scheme())


def test_memory_of_an_lstm_by_hand() -> None:
    graph = quantized(LSTMNetwork(14, [8]), (30, 14))
    # While the LSTM runs: its input 30 x 14 -> 432, its output 30 x 8 = 240, four gates of 8 int16 = 64;
    # beside the arena the states, hidden 8 -> 16 and cell 16.
    assert peak_ram_bytes(graph.program()) == 432 + 240 + 64 + 16 + 16
    # In float: 1680, 960 and 128; states of 32 each.
    assert peak_ram_bytes(graph.graph.program()) == 1680 + 960 + 128 + 32 + 32


def test_memory_of_kernels_by_hand() -> None:
    # 30 x 20 -> 608 put out, and four gates of 20 int16, 40 -> 48 each; states of 20 -> 32 and 40 -> 48.
    lstm = quantized(LSTMNetwork(14, [20]), (30, 14))
    assert peak_ram_bytes(lstm.program()) == 432 + 608 + 4 * 48 + 32 + 48
    # 5 x 6 x 7 = 210 -> 224, 7 -> 16 put out; sums of 7 int32, 28 -> 32; a position (four axes) and two axes, 16 each.
    mean = quantized(nn.AdaptiveAvgPool2d(1), (7, 5, 6))
    assert peak_ram_bytes(mean.program()) == 224 + 16 + 32 + 16 + 16
    assert peak_ram_bytes(mean.graph.program()) == 848 + 32 + 16 + 16


def test_memory_of_two_dense_layers_by_hand() -> None:
    network = nn.Sequential(nn.Linear(100, 40), nn.ReLU(), nn.Linear(40, 90))
    # 100 -> 112 and 40 -> 48 live together, then 48 and 90 -> 96.
    assert peak_ram_bytes(quantized(network, (100,)).program()) == 112 + 48


def test_operators_that_nobody_knows_are_refused() -> None:
    program = quantized(nn.Linear(4, 3), (4,)).program()
    unknown = replace(program.operators[0], kind="FOLD_PAPER")
    with pytest.raises(ValueError, match="no operator FOLD_PAPER"):
        peak_ram_bytes(replace(program, operators=[unknown]))
