from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np
import optuna
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from optuna.distributions import BaseDistribution

from qanas.core.candidate import GROUPS, Candidate, Group, Value
from qanas.networks.lstm import LSTMNetwork, LSTMSpace
from qanas.networks.recurrent import REFERENCE_TRAINING
from qanas.search_space.mutation import stepped
from qanas.search_space.network_space import TaskShape
from qanas.search_space.quantization_group import quantization_settings
from qanas.search_space.settings import AtLeast, Choice, Condition, Float, Integer, OneOf, Setting
from qanas.search_space.space import SearchSpace, space_of
from qanas.search_space.training_group import TrainingSettings, training_settings

SHAPE = TaskShape((30, 14), 1, 125.0, ("mae", "mse"))
LAYERS = Integer("layers", "architecture", 2, low=1, high=3)
UNITS_2 = Integer("units_2", "architecture", 8, low=1, high=100, log=True, condition=AtLeast("layers", 2))
RATE = Float("rate", "training", 0.01, low=1e-4, high=1e-1, log=True)
RULE = Choice("rule", "training", "adam", options=("adam", "sgd"))
MOMENTUM = Float("momentum", "training", 0.9, low=0.0, high=0.99, condition=OneOf("rule", ("sgd",)))


def lowest(_: str, distribution: BaseDistribution) -> Value:
    """Suggest the first value of a range."""
    if isinstance(distribution, optuna.distributions.CategoricalDistribution):
        first = distribution.choices[0]
        assert first is not None
        return first
    assert isinstance(distribution, optuna.distributions.IntDistribution | optuna.distributions.FloatDistribution)
    return distribution.low


def values_of(candidate: Candidate) -> dict[str, Value]:
    return {name: value for group in candidate.config.values() for name, value in group.items()}


def test_a_setting_exists_exactly_where_its_condition_holds() -> None:
    space = space_of([LAYERS, UNITS_2, RULE, MOMENTUM], ["architecture", "training"])
    assert dict(space.reference.architecture) == {"layers": 2, "units_2": 8}
    assert dict(space.reference.training) == {"rule": "adam"}, "momentum is that of another rule"
    assert values_of(space.sample(lowest)) == {"layers": 1, "rule": "adam"}


def test_the_widths_of_weights_that_are_searched_are_the_spaces_choice_and_the_seed_has_8() -> None:
    for widths in ((8,), (4, 6, 8), (4,)):
        space = space_of(quantization_settings(widths), ["quantization"])
        assert dict(space.reference.quantization) == {"weight_bits": 8}
        asked: list[BaseDistribution] = []

        def first(_: str, distribution: BaseDistribution, asked: list[BaseDistribution] = asked) -> Value:
            asked.append(distribution)
            return lowest(_, distribution)

        assert dict(space.sample(first).quantization) == {"weight_bits": widths[0]}
        assert asked == [optuna.distributions.CategoricalDistribution(widths)]


@pytest.mark.parametrize("widths", [(), (4, 4)])
def test_widths_of_weights_are_named_once(widths: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match="weight_bits"):
        quantization_settings(widths)


def test_a_condition_on_a_setting_that_is_absent_does_not_hold() -> None:
    third = Integer("units_3", "architecture", 4, low=1, high=9, condition=AtLeast("units_2", 1))
    space = space_of([LAYERS, UNITS_2, third], ["architecture"])
    assert dict(space.sample(lowest).architecture) == {"layers": 1}


def test_groups_that_are_not_searched_stay_at_the_seeds_values() -> None:
    space = space_of([LAYERS, UNITS_2, RATE, RULE], ["training"])
    candidate = space.sample(lowest)
    assert candidate.architecture == space.reference.architecture
    assert dict(candidate.training) == {"rate": 1e-4, "rule": "adam"}


def test_only_free_settings_are_suggested() -> None:
    asked: list[str] = []

    def suggest(name: str, distribution: BaseDistribution) -> Value:
        asked.append(name)
        return lowest(name, distribution)

    space_of([LAYERS, UNITS_2, RATE, RULE], ["architecture"]).sample(suggest)
    assert asked == ["layers"]


def test_a_sampler_learns_the_seed_where_it_is_within_the_ranges() -> None:
    space = space_of([LAYERS, UNITS_2, RATE, RULE], ["architecture", "training"])
    values, ranges = space.parameters(space.reference)
    assert values == {"layers": 2, "units_2": 8, "rate": 0.01, "rule": "adam"}
    assert ranges == {s.name: s.distribution for s in (LAYERS, UNITS_2, RATE, RULE)}
    optuna.create_study().add_trial(optuna.create_trial(params=values, distributions=ranges, value=1.0))


def test_a_sampler_does_not_learn_frozen_settings() -> None:
    space = space_of([LAYERS, RATE], ["training"])
    assert space.parameters(space.reference)[0] == {"rate": 0.01}


@pytest.mark.parametrize(
    "outside",
    [
        Integer("outside", "architecture", 500, low=1, high=100),
        Float("outside", "architecture", 5.0, low=0.1, high=1.0, log=True),
        Choice("outside", "architecture", "c", options=("a", "b")),
    ],
)
def test_a_seed_outside_its_range_is_kept_and_hidden_from_samplers(outside: Setting) -> None:
    space = space_of([LAYERS, outside], ["architecture"])
    assert space.reference.architecture["outside"] == outside.reference
    values, ranges = space.parameters(space.reference)
    assert values == {"layers": 2}
    assert set(ranges) == {"layers"}


@pytest.mark.parametrize("setting", [RATE, replace(RATE, log=False), LAYERS, RULE])
def test_a_step_leads_to_another_value_of_the_range(setting: Setting) -> None:
    ranges: dict[type[Setting], tuple[Value, Value]] = {Float: (1e-4, 1e-1), Integer: (1, 3), Choice: ("adam", "sgd")}
    ends = ranges[type(setting)]
    for end in ends:
        for seed in range(40):
            moved = stepped(setting.distribution, end, np.random.default_rng(seed))
            assert moved != end
            assert setting.distribution._contains(setting.distribution.to_internal_repr(moved))


@pytest.mark.parametrize(
    ("entries", "free", "message"),
    [
        ([LAYERS, LAYERS], ["architecture"], "two settings are called 'layers'"),
        ([UNITS_2, LAYERS], ["architecture"], "condition of 'units_2' names 'layers'"),
        ([LAYERS], ["training"], "nothing is searched"),
        ([LAYERS], [], "nothing is searched"),
        ([replace(RATE, finer="larger")], ["training"], "'rate' says that larger values are finer, but has no next"),
        ([], ["architecture"], "nothing is searched"),
        (
            [replace(RULE, options=("adam", "sgd", "adam"))],
            ["training"],
            "'rule' have 'adam' and 'adam', which are equal",
        ),
        ([replace(RULE, options=(0, "adam", False))], ["training"], "'rule' have 0 and False, which are equal"),
        ([replace(RULE, options=(8, 8.0))], ["training"], "'rule' have 8 and 8.0, which are equal; give each once"),
    ],
)
def test_spaces_that_make_no_sense_are_refused(entries: list[Setting], free: list[Group], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        space_of(entries, free)


@st.composite
def spaces(draw: st.DrawFn) -> SearchSpace:
    """Spaces of integers, floats and choices with conditions on earlier ones."""
    entries: list[Setting] = []
    for position in range(draw(st.integers(1, 6))):
        name, group = f"s{position}", draw(st.sampled_from(GROUPS))
        condition: Condition | None = None
        conditional = draw(st.booleans())
        if entries and conditional:
            before = draw(st.sampled_from(entries))
            if isinstance(before, Choice):
                condition = OneOf(before.name, draw(st.sampled_from([("a",), ("b", "c"), ("z",)])))
            else:
                condition = AtLeast(before.name, draw(st.integers(0, 6)))
        kind = draw(st.sampled_from(["integer", "float", "choice"]))
        low, width = draw(st.integers(1, 4)), draw(st.integers(0, 4))
        seed = draw(st.integers(1, 8))
        if kind == "integer":
            log = draw(st.booleans())
            entries.append(Integer(name, group, seed, low=low, high=low + width, log=log, condition=condition))
        elif kind == "float":
            entries.append(
                Float(name, group, float(seed), low=float(low), high=float(low + width), condition=condition)
            )
        else:
            entries.append(Choice(name, group, "a", options=("a", "b", "c"), condition=condition))
    free = draw(st.sets(st.sampled_from(sorted({entry.group for entry in entries})), min_size=1))
    return space_of(entries, sorted(free))


def holds(condition: Condition | None, values: dict[str, Value]) -> bool:
    if condition is None:
        return True
    if condition.setting not in values:
        return False
    value = values[condition.setting]
    if isinstance(condition, OneOf):
        return value in condition.options
    assert isinstance(value, int | float)
    return value >= condition.minimum


def assert_consistent(space: SearchSpace, candidate: Candidate) -> None:
    values: dict[str, Value] = {}
    for setting in space.settings:
        exists = holds(setting.condition, values)
        written = exists and (setting.group != "input" or "input" in space.free)
        assert (setting.name in candidate.group(setting.group)) == written, setting.name
        if exists:
            values[setting.name] = candidate.group(setting.group)[setting.name] if written else setting.reference
            assert setting.group in space.free or values[setting.name] == setting.reference
    assert set(values_of(candidate)) <= set(values)


def test_the_input_is_in_a_candidate_only_where_it_is_searched() -> None:
    window = Integer("window", "input", 30, low=10, high=60)
    wide = Choice("wide", "architecture", 1, options=(1, 2), condition=AtLeast("window", 20))
    unsearched = space_of([window, LAYERS, wide], ["architecture"])
    assert unsearched.reference == Candidate({"layers": 2, "wide": 1})
    assert unsearched.sample(lowest) == Candidate({"layers": 1, "wide": 1})
    searched = space_of([window, LAYERS, wide], ["input"])
    assert searched.reference == Candidate({"layers": 2, "wide": 1}, input={"window": 30})
    assert searched.sample(lowest) == Candidate({"layers": 2}, input={"window": 10})
    assert searched.parameters(searched.reference)[0] == {"window": 30}


SAMPLERS: dict[str, Callable[[int], optuna.samplers.BaseSampler]] = {
    "random": lambda seed: optuna.samplers.RandomSampler(seed=seed),
    "tpe": lambda seed: optuna.samplers.TPESampler(seed=seed, n_startup_trials=2),
}


@pytest.mark.parametrize("sampler", SAMPLERS)
@settings(deadline=None, max_examples=20)
@given(space=spaces(), seed=st.integers(0, 1000))
def test_any_sampler_gives_candidates_whose_settings_exist_exactly_where_they_should(
    sampler: str, space: SearchSpace, seed: int
) -> None:
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    study = optuna.create_study(sampler=SAMPLERS[sampler](seed))
    assert_consistent(space, space.reference)
    for number in range(4):
        trial = study.ask()

        def suggest(name: str, distribution: BaseDistribution, trial: optuna.Trial = trial) -> Value:
            value: Value = trial._suggest(name, distribution)
            return value

        candidate = space.sample(suggest)
        assert_consistent(space, candidate)
        values, ranges = space.parameters(candidate)
        assert values == trial.params
        assert ranges == trial.distributions
        study.tell(trial, float(number))


@pytest.mark.parametrize("layers", [1, 2, 3])
def test_lstm_spaces_have_units_of_the_layers_that_exist_and_build_them(layers: int) -> None:
    space = space_of(LSTMSpace(seed_layers=layers, seed_units=5).settings(SHAPE), ["architecture", "training"])
    units = [f"units_{layer}" for layer in range(1, layers + 1)]
    assert dict(space.reference.architecture) == {"layers": layers, **dict.fromkeys(units, 5)}
    network = LSTMSpace().build(space.reference, SHAPE)
    assert isinstance(network, LSTMNetwork)
    assert [p.shape[1] for name, p in network.named_parameters() if name.endswith("weight_hh")] == [5] * layers


def test_a_seed_network_with_more_layers_than_are_searched_is_buildable() -> None:
    family = LSTMSpace(max_layers=1, seed_layers=3, seed_units=4)
    space = space_of(family.settings(SHAPE), ["architecture"])
    assert dict(space.reference.architecture) == {"layers": 3, "units_1": 4, "units_2": 4, "units_3": 4}
    assert dict(space.sample(lowest).architecture) == {"layers": 1, "units_1": 1}
    family.build(space.reference, SHAPE)


def test_training_settings_parse_back_and_leave_the_networks_own_out() -> None:
    entries: Sequence[Setting] = training_settings(("mae", "mse"), REFERENCE_TRAINING)
    group = {entry.name: entry.reference for entry in entries}
    assert TrainingSettings.from_group({**group, "dropout": 0.1}) == REFERENCE_TRAINING
