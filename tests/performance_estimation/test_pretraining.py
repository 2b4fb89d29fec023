"""Pretraining: what is learnt first, on what, and what of it a network is given."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch

from qanas.core.errors import InputError
from qanas.core.seeds import derive_seed
from qanas.performance_estimation.bench import RANDOM, PreparedData
from qanas.performance_estimation.pretraining import PretrainedTraining, Pretraining, kept_of
from qanas.performance_estimation.procedure import FullTraining
from qanas.recipe import load_plan
from qanas.tasks.images import Images
from qanas.tasks.images.synthetic import write_pictures
from qanas.testing.small import small_bench

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

TASK = Images("synthetic", size=8)
BENCH = small_bench(data=PreparedData(TASK))
OTHER = Pretraining(replace(TASK, split_seed=5), {"split_seed": 5}, 1, same_files=True, fingerprint="drawn")
PROCEDURE = PretrainedTraining(epochs=1, pretraining=OTHER)


def looks(images: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return what of pictures doesn't hang on how they are standardised, in an order of its own, shape (n, 4)."""
    plain = (images - images.mean((2, 3), keepdims=True)) / images.std((2, 3), keepdims=True)
    chosen = plain[:, :2, 3, 3:5].reshape(len(images), -1)
    found: NDArray[np.float32] = chosen[np.argsort(chosen[:, 0])]
    return found


def test_it_sees_what_the_task_trains_on_and_nothing_else() -> None:
    train, val = BENCH.data_of(BENCH.reference).train, BENCH.data_of(BENCH.reference).val
    other = OTHER.data.of({})
    assert set(other.train.extras["file"]) & set(val.extras["file"])  # left alone, it would learn them
    samples = OTHER.samples(BENCH, BENCH.reference)
    assert len(samples) == len(train)
    assert np.array_equal(np.bincount(samples.targets), np.bincount(train.targets))
    np.testing.assert_allclose(looks(samples.inputs), looks(train.inputs), atol=1e-3)
    apart = replace(OTHER, same_files=False)
    assert len(apart.samples(BENCH, BENCH.reference)) == len(other.train)


def test_it_sees_them_whichever_of_its_splits_is_decoded_on_demand(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_pictures(tmp_path, 0)
    task = replace(TASK, data=str(tmp_path))
    bench, other = replace(BENCH, data=PreparedData(task)), replace(task, split_seed=5)
    expected = replace(OTHER, task=other).samples(bench, bench.reference)
    largest = max(split.inputs.nbytes for split in (other.load().val, other.load().test))
    monkeypatch.setattr("qanas.tasks.images.reader.MOST_IN_MEMORY", largest)
    mixed = replace(OTHER, task=other)
    assert [split.in_memory for split in (mixed.data.of({}).train, mixed.data.of({}).val)] == [False, True]
    samples = mixed.samples(bench, bench.reference)
    np.testing.assert_allclose(samples.inputs, expected.inputs, atol=1e-6)
    assert np.array_equal(samples.targets, expected.targets)


def test_only_what_fits_is_taken() -> None:
    own = {"body": torch.zeros(2, 3), "head": torch.zeros(4)}
    found = kept_of({"body": torch.ones(2, 3), "head": torch.ones(5), "more": torch.ones(1)}, own)
    assert found["body"].sum() == 6
    assert found["head"].sum() == 0
    assert list(found) == ["body", "head"]


def test_networks_begin_with_it_unless_their_weights_come_from_elsewhere() -> None:
    bench, candidate = BENCH, BENCH.reference
    network = bench.build(candidate, derive_seed(1, "weights"))
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    OTHER.teach(bench, candidate, network, 1, "cpu")
    assert all(not torch.equal(before[name], tensor) for name, tensor in network.named_parameters())
    first, second = (PROCEDURE.make(bench, candidate, RANDOM, 1).network.state_dict() for _ in range(2))
    alone = PROCEDURE.alone().make(bench, candidate, RANDOM, 1).network.state_dict()
    assert all(torch.equal(second[name], tensor) for name, tensor in first.items())
    assert any(not torch.equal(alone[name], tensor) for name, tensor in first.items())
    assert type(PROCEDURE.alone()) is FullTraining
    assert PROCEDURE.notes["pretraining"]["split_seed"] == 5
    assert PROCEDURE.further_facts != replace(PROCEDURE, pretraining=replace(OTHER, epochs=2)).further_facts
    assert PROCEDURE.with_settings(epochs=3).notes == PROCEDURE.notes
    assert PROCEDURE.forecast(bench, candidate) > 0


RECIPE = """
[task]
name = "images"
data = "synthetic"
size = 8
[space]
name = "resnet"
[strategy]
name = "random"
[objectives]
accuracy_quantized = "maximize"
[pretraining]
"""


def test_a_recipe_says_what_is_learnt_first(tmp_path: Path) -> None:
    path = tmp_path / "recipe.toml"
    path.write_text(RECIPE + "epochs = 4\nsplit_seed = 3\n")
    plan = load_plan(path)
    procedure = plan.finalists.procedure
    assert isinstance(procedure, PretrainedTraining)
    assert procedure.pretraining.task == Images("synthetic", size=8, split_seed=3)
    assert procedure.pretraining.same_files
    assert plan.recipe["pretraining"] | {"fingerprint": ""} == {"epochs": 4, "split_seed": 3, "fingerprint": ""}
    for keys, said in (
        ("epochs = 0", "pretraining.epochs"),
        ("epochs = 1\nname = 'audio'", "leave the name out"),
        ("epochs = 1\nsplit_sed = 1", "split_seed"),
    ):
        path.write_text(RECIPE + keys)
        with pytest.raises(InputError, match=said):
            load_plan(path)
    with pytest.raises(InputError, match=r"its inputs have shape \(3, 16, 16\), the task's \(3, 8, 8\)"):
        replace(OTHER, task=replace(TASK, size=16)).check(BENCH)
