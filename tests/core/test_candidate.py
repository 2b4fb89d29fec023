import copy
import hashlib
import json
import pickle
import subprocess
import sys
from typing import cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from qanas.core.candidate import GROUPS, Candidate, Value

names = st.text("abcdefgh_", min_size=1, max_size=6)
values = st.one_of(
    st.booleans(), st.integers(-1000, 1000), st.floats(allow_nan=False, allow_infinity=False), st.text(max_size=5)
)
groups = st.dictionaries(names, values, max_size=4)
candidates = st.builds(Candidate, groups, groups, groups, groups)


@given(candidates)
def test_key_is_the_same_whatever_the_order_of_the_settings(candidate: Candidate) -> None:
    reversed_groups = {name: dict(reversed(list(candidate.group(name).items()))) for name in GROUPS}
    again = Candidate(**reversed_groups)
    assert again == candidate
    assert again.key == candidate.key
    assert len(candidate.key) == 12
    assert set(candidate.key) <= set("0123456789abcdef")


@given(candidates)
def test_pickle_and_copy_give_an_equal_candidate(candidate: Candidate) -> None:
    for again in (pickle.loads(pickle.dumps(candidate)), copy.deepcopy(candidate)):  # noqa: S301 - our own bytes
        assert again == candidate
        assert again.key == candidate.key
        assert hash(again) == hash(candidate)
        assert again.config == candidate.config


@given(candidates, candidates)
def test_equal_candidates_have_equal_keys_and_equal_hashes(one: Candidate, other: Candidate) -> None:
    assert (one == other) == (one.key == other.key)
    if one == other:
        assert hash(one) == hash(other)


@pytest.mark.parametrize(("one", "other"), [(1, 1.0), (1, True), (0.0, False)])
def test_values_of_different_types_make_different_candidates(one: Value, other: Value) -> None:
    first, second = Candidate({"a": one}), Candidate({"a": other})
    assert first.key != second.key
    assert first != second


def test_a_setting_in_another_group_makes_another_candidate() -> None:
    keys = {Candidate(**{group: {"a": 1}}).key for group in GROUPS} | {Candidate().key}
    assert len(keys) == len(GROUPS) + 1


@given(groups, groups, groups)
def test_a_candidate_whose_input_is_not_searched_has_the_key_of_three_groups(
    architecture: dict[str, Value], training: dict[str, Value], quantization: dict[str, Value]
) -> None:
    config = {"architecture": architecture, "training": training, "quantization": quantization}
    text = json.dumps(config, sort_keys=True, separators=(",", ":"))
    candidate = Candidate(architecture, training, quantization)
    assert candidate.key == hashlib.sha256(text.encode()).hexdigest()[:12]
    assert candidate.config == config


def test_keys_of_released_versions_stay() -> None:
    assert Candidate({"units": 4}, {"loss": "mae"}, {"weight_bits": 8}).key == "c524e7432dd8"


@given(candidates)
def test_a_configuration_makes_the_candidate_again(candidate: Candidate) -> None:
    assert Candidate(**candidate.config) == candidate
    assert ("input" in candidate.config) == bool(candidate.input)


def test_key_does_not_depend_on_the_process() -> None:
    code = "from qanas.core.candidate import Candidate; print(Candidate({'units': 4}, {'loss': 'mae'}).key)"
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert done.stdout.strip() == Candidate({"units": 4}, {"loss": "mae"}).key


def test_groups_can_not_be_changed() -> None:
    source: dict[str, Value] = {"units": 4}
    candidate = Candidate(source)
    key = candidate.key
    source["units"] = 5
    with pytest.raises(TypeError):
        cast("dict[str, Value]", candidate.architecture)["units"] = 5
    with pytest.raises(AttributeError):
        candidate.architecture = {}  # type: ignore[misc]
    candidate.config["architecture"]["units"] = 6
    assert candidate.key == key
    assert candidate.architecture["units"] == 4
