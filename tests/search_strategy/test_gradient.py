"""What a search by gradient makes of gates: the likeliest network within limits, and what it says of it."""

from __future__ import annotations

import itertools
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from qanas.core.errors import InputError
from qanas.core.measures import Cost, Limit, Metric, Score
from qanas.hardware.costs import cost_models
from qanas.hardware.device import Device
from qanas.performance_estimation.gated_networks import GatedSharedWeights, candidate_of, held_out, places_of
from qanas.performance_estimation.procedure import FullTraining
from qanas.performance_estimation.training import Training
from qanas.search_space.gates import Choice, GateLoss, GateSettings, LearntGates, OptionCosts, Places
from qanas.search_strategy.gradient import GradientSearch, collapse, likeliest, likeliest_within, require_reachable
from qanas.testing.small import PlainStages, SmallSpace, small_bench

BYTES, LATENCY = Cost("packed_weight_bytes"), Cost("latency_ms", "stm32h743")


@pytest.fixture(scope="module")
def offered(tmp_path_factory: pytest.TempPathFactory) -> GatedSharedWeights:
    """The small networks, 8 in each of 4 pairs of bits; no supernet is trained for them."""
    costs = cost_models([LATENCY], Device.named("host"))
    bench = small_bench(networks=SmallSpace((4, 8)), search=("architecture", "quantization"), costs=costs)
    procedure = FullTraining(epochs=1)
    stages = PlainStages(bench, procedure, tmp_path_factory.mktemp("stages"))
    file = stages.file("supernet", "supernet", ".safetensors", "shared")
    return GatedSharedWeights(bench, stages, Training(procedure), file, 0.25)


@pytest.fixture(scope="module")
def exact(offered: GatedSharedWeights) -> dict[Choice, dict[str, float]]:
    """What every network costs as it ships."""
    return {choice: offered.costs(offered.candidate(choice)) for choice in every(offered.places)}


def every(places: Places) -> list[Choice]:
    options = itertools.product(*(range(len(names)) for names in places.options))
    return [Choice(own, bits) for own in options for bits in itertools.product(range(2), repeat=len(places.bits))]


def gates(places: Places, seed: int, alpha: float = 0.1) -> LearntGates:
    generator = torch.Generator().manual_seed(seed)
    options = tuple(torch.randn(len(names), generator=generator).double() for names in places.options)
    bits = tuple(torch.randn(len(known), generator=generator).double() for known in places.bits)
    return LearntGates(GateLoss("sum", alpha, (BYTES.column,)), options, bits)


def test_costs_of_options_add_up_to_every_network_as_it_ships(
    offered: GatedSharedWeights, exact: dict[Choice, dict[str, float]]
) -> None:
    """Counted costs to the byte; latency by formula, which counts operators, to a millionth."""
    columns = ("macs", "weight_bytes", BYTES.column, LATENCY.column)
    costs = offered.option_costs(columns)
    for choice, shipped in exact.items():
        for name in columns:
            assert costs[name].of(offered.places, choice) == pytest.approx(shipped[name], rel=1e-6 * ("@" in name))


def test_costs_of_options_with_bits_by_layer_add_up_too(tmp_path: Path) -> None:
    bench = small_bench(networks=SmallSpace((4, 8), "layer"), search=("architecture", "quantization"))
    procedure = FullTraining(epochs=1)
    stages = PlainStages(bench, procedure, tmp_path)
    file = stages.file("supernet", "supernet", ".safetensors", "shared")
    offered = GatedSharedWeights(bench, stages, Training(procedure), file, 0.25)
    cost = offered.option_costs([BYTES.column])[BYTES.column]
    choices = every(offered.places)
    assert len(choices) == 8 * 8
    for choice in choices[::7]:
        assert cost.of(offered.places, choice) == offered.costs(offered.candidate(choice))[BYTES.column]
    assert len({offered.candidate(choice).key for choice in choices}) == len(choices)


def test_the_expected_cost_is_the_mean_over_all_networks(offered: GatedSharedWeights) -> None:
    cost = offered.option_costs([BYTES.column])[BYTES.column]
    options, bits = gates(offered.places, 3).probabilities
    mean = 0.0
    for choice in every(offered.places):
        chance = 1.0
        for chances, position in zip((*options, *bits), (*choice.options, *choice.bits), strict=True):
            chance *= chances[position].item()
        mean += chance * cost.of(offered.places, choice)
    assert cost.expected(offered.places, options, bits).item() == pytest.approx(mean, rel=1e-12)
    networks = [cost.of(offered.places, choice) for choice in every(offered.places)]
    assert cost.least(offered.places) == min(networks)
    assert cost.spread(offered.places) == pytest.approx(sum(networks) / len(networks) - min(networks), rel=1e-12)


def test_the_likeliest_network_within_limits_is_that_of_all(
    offered: GatedSharedWeights, exact: dict[Choice, dict[str, float]]
) -> None:
    costs = offered.option_costs([BYTES.column])
    bounds = sorted(found[BYTES.column] for found in exact.values())
    for seed, rank in enumerate((0, len(bounds) // 3, len(bounds) - 1)):
        learnt = gates(offered.places, seed)
        chances = [[own.tolist() for own in part] for part in learnt.probabilities]

        def chance(choice: Choice, chances: list[Any] = chances) -> float:
            picked = (*choice.options, *choice.bits)
            logs = (torch.tensor(own[p]).log() for own, p in zip((*chances[0], *chances[1]), picked, strict=True))
            return float(sum(logs))

        limit = Limit(BYTES, bounds[rank])
        within = [choice for choice, found in exact.items() if limit.excess(found) <= 0]
        found = likeliest_within(offered, learnt, costs, [limit])
        assert chance(found) == pytest.approx(max(map(chance, within)), abs=1e-6)
        assert limit.excess(exact[found]) <= 0
    assert likeliest_within(offered, learnt, costs, []) == likeliest(learnt)
    ram = Limit(Cost("peak_ram_bytes"), min(found["peak_ram_bytes"] for found in exact.values()))
    assert ram.excess(exact[likeliest_within(offered, learnt, costs, [ram])]) <= 0
    with pytest.raises(InputError, match=r"^limits: alpha 0.1: no network is within packed_weight_bytes <= 5 "):
        likeliest_within(offered, learnt, costs, [Limit(BYTES, 5)])
    require_reachable(offered.places, costs, [Limit(BYTES, bounds[0]), ram])
    with pytest.raises(InputError, match=r"^limits.packed_weight_bytes: no network .* is within 5, the least"):
        require_reachable(offered.places, costs, [Limit(BYTES, 5)])


def test_gates_that_are_as_sure_as_can_be_choose(offered: GatedSharedWeights) -> None:
    places, bound = offered.places, Limit(BYTES, 10_000)
    options = tuple(torch.tensor([1e4, *[0.0] * (len(names) - 1)], dtype=torch.float64) for names in places.options)
    bits = tuple(torch.tensor([0.0, 1e4], dtype=torch.float64) for _ in places.bits)
    learnt = LearntGates(GateLoss("sum", 0.1, (BYTES.column,)), options, bits)
    found = likeliest_within(offered, learnt, offered.option_costs([BYTES.column]), [bound])
    assert found == likeliest(learnt)


def test_a_cost_that_is_the_same_for_all_networks_has_no_say() -> None:
    places = Places((("a", "b", "c"),) * 2, (0, 0), ((8,),), (0, 0))
    shares = (((0.1 + 0.2, 0.3, 0.3),), ((0.0, 0.0, 0.0),))  # equal but for rounding
    assert OptionCosts(7.0, ((0.0,),), shares).spread(places) == 1.0


def test_bits_are_chosen_only_where_they_are_searched() -> None:
    bench = small_bench(networks=SmallSpace((4, 8)), search=("architecture",))
    places = places_of(bench)
    assert places.bits == ((8,), (8,))
    assert candidate_of(bench, places, Choice((0, 1, 1), (0, 0))).quantization == bench.reference.quantization
    assert len(held_out(bench, 0.001)[1]) == 1


@pytest.mark.parametrize(
    ("choice", "told"),
    [
        (Choice((1, 0, 2), (0, 1)), ""),
        (Choice((0, 0, 0), (0, 1)), "all 3 layers have k3"),
        (Choice((0, 1, 2), (1, 1)), "all 2 layers that can be left out are and all 2 blocks have 8 bits"),
    ],
)
def test_a_collapse_is_said(choice: Choice, told: str) -> None:
    places = Places((("k3", "k5"), ("k3", "none"), ("k3", "k5", "none")), (0, 0, 1), ((4, 8), (4, 8)), (0, 0, 1))
    assert collapse(places, choice) == told


def test_what_gates_cannot_learn_by_is_refused(offered: GatedSharedWeights) -> None:
    score, cost = Score("shared_accuracy_quantized", "maximize"), Cost("macs")
    for axes in ([score], [cost]):
        with pytest.raises(InputError, match=r"^objectives: a search by gradient has a metric"):
            GradientSearch().check(axes, ())
    with pytest.raises(InputError, match=r"^strategy.alphas: one is given twice"):
        GradientSearch(alphas=(0.1, 0.1)).check([Metric("accuracy"), cost], ())
    for column, told in (("peak_ram_bytes", "doesn't add up over layers"), ("cycles@x", "is not known of candidates")):
        with pytest.raises(InputError, match=rf"^strategy.costs: {column} {told}"):
            offered.option_costs([column])
        with pytest.raises(InputError, match=rf"^strategy.costs: {column} {told}"):
            GradientSearch(costs=(column,)).check_costs([score, cost], offered.bench.costs)
    measured = small_bench(costs=cost_models([Cost("latency_ms")], Device.named("host")))
    with pytest.raises(InputError, match=r"^strategy.costs: latency_ms is measured anew each time"):
        GatedSharedWeights(measured, offered.stages, offered.scorer, offered.shared, 0.2).option_costs(["latency_ms"])
    bare = GatedSharedWeights(offered.bench, offered.stages, offered.scorer, offered.shared, None)
    with pytest.raises(InputError, match=r"^supernet.held_out: gates learn on samples"):
        bare.learnt(replace(GateSettings(), steps=1), [])
