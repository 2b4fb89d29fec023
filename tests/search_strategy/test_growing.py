"""Networks that are grown in a run: generations, what they inherit, and what a killed run goes on with."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import tomli_w

from qanas.core.errors import InputError
from qanas.core.run_folder import RunFolder
from qanas.recipe import load_plan
from qanas.reporting.live import LiveDisplay
from qanas.search_space.growth import growth_of, weights_of_trial
from qanas.search_strategy.morphism_bo import distances, points
from qanas.testing import check_start
from qanas.workflows.search import Search
from qanas.workflows.trial_store import TrialStore

if TYPE_CHECKING:
    from pathlib import Path

    from qanas.core.trials import TrialRecord

CLIMBING = {"name": "hill_climbing", "neighbours": 2, "morphisms": 2}


def searched(folder: Path, trials: int, strategy: dict[str, Any], **tables: dict[str, Any]) -> Search:
    folder.mkdir(exist_ok=True)
    recipe = folder / "recipe.toml"
    content: dict[str, dict[str, Any]] = {
        "task": {"name": "qanas.testing.small:SmallTask"},
        "space": {"name": "growing", "seed_channels": 4, "max_channels": 8, "stages": 2, "search": ["architecture"]},
        "strategy": {**strategy, "trials": trials},
        "estimation": {"calibration_samples": 8, "epochs": 1},
        "objectives": {"accuracy_quantized": "maximize", "weight_bytes": "minimize"},
        **tables,
    }
    recipe.write_text(tomli_w.dumps(content), "utf-8")
    plan = load_plan(recipe)
    plan.check()
    with LiveDisplay() as display:
        search = Search(plan, RunFolder(folder), display)
        search.run()
    return search


def told(search: Search) -> list[tuple[int, str, object, dict[str, float]]]:
    return [(r.index, r.candidate.key, r.origin.get("parent"), dict(r.metrics)) for r in search.store.records]


@pytest.fixture(scope="module")
def climbed(tmp_path_factory: pytest.TempPathFactory) -> Search:
    return searched(tmp_path_factory.mktemp("climbed"), 6, CLIMBING)


def test_two_at_a_time_are_both_of_the_generation(climbed: Search) -> None:
    """While the parent is trained on, the next to be asked for is its neighbour, and no stranger."""
    sampler = climbed.plan.strategy.inheriting(climbed.folder.trained)  # type: ignore[attr-defined]
    store = TrialStore(None, climbed.plan.axes, climbed.plan.limits)
    (reference,) = [record for record in climbed.store.records if record.is_seed]
    store.tell(climbed.bench.space, None, reference)
    first = sampler.ask(climbed.bench.space, store, 1)
    assert first.candidate == reference.candidate
    assert store.begin(climbed.bench.space, 1, first, (first.candidate.key, first.parent))
    second = sampler.ask(climbed.bench.space, store, 2)
    assert second.candidate != first.candidate
    assert second.parent == first.parent


def best(records: list[TrialRecord]) -> TrialRecord:
    return max(records, key=lambda record: (record.metrics["accuracy_quantized"], -record.index))


def test_the_best_child_is_the_parent_of_the_next_generation(climbed: Search) -> None:
    records = climbed.store.records
    parents = [str(record.origin["parent"]) for record in records[1:]]
    assert parents[:2] == [f"{records[0].candidate.key}/0"] * 2
    second = best(records[1:3])
    assert parents[2:4] == [f"{second.candidate.key}/{second.index}"] * 2
    assert [records[1].candidate, records[3].candidate] == [records[0].candidate, second.candidate]  # trained on


def test_killed_in_the_middle_of_a_generation_it_finds_the_same(climbed: Search, tmp_path: Path) -> None:
    for trials in (3, 6):  # one of two children was trained
        resumed = searched(tmp_path / "resumed", trials, CLIMBING)
    assert told(resumed) == told(climbed)


def test_what_is_inherited_is_a_start(climbed: Search) -> None:
    record = next(r for r in climbed.store.records[1:] if r.candidate != climbed.bench.reference)
    sampler = climbed._with_weights(climbed.plan.strategy)  # type: ignore[arg-type]  # it is a sampler
    proposal = sampler.ask(climbed.bench.space, climbed.store, 0)
    other = sampler.ask(climbed.bench.space, climbed.store, 1)
    for found in (proposal, other):
        check_start(found.start, climbed.bench, found.candidate)
    check_start(
        climbed.estimator.finalist_start(climbed.bench, record.candidate, "search"), climbed.bench, record.candidate
    )
    assert proposal.start.digest != other.start.digest
    assert weights_of_trial(climbed.folder.trained, record.index, record.candidate).is_file()


def test_weights_that_are_gone_are_said_in_a_line(tmp_path: Path) -> None:
    searched(tmp_path / "run", 2, CLIMBING)
    for path in (tmp_path / "run" / "trained").iterdir():
        path.unlink()
    with pytest.raises(InputError, match=r"the weights of trial 0 are gone, which its children inherit"):
        searched(tmp_path / "run", 3, CLIMBING)


def test_nothing_is_kept_where_nothing_is_inherited(tmp_path: Path) -> None:
    search = searched(tmp_path / "run", 3, {**CLIMBING, "inherit": False})
    assert not search.folder.trained.exists()
    assert len({record.candidate.key for record in search.store.records}) == 3  # no parent is trained again


def test_a_front_is_grown_from_networks_of_it(tmp_path: Path) -> None:
    limit = {"weight_bytes": 1500}
    lemonade = {"name": "lemonade", "drawn": 3}
    search = searched(tmp_path / "run", 4, lemonade, limits=limit)
    assert all(record.costs["weight_bytes"] <= 1500 for record in search.store.records[1:])
    for trials in (2, 4):  # killed between two children
        resumed = searched(tmp_path / "resumed", trials, lemonade, limits=limit)
    assert told(resumed) == told(search)


def test_points_are_as_far_apart_as_edits_are(climbed: Search) -> None:
    space = climbed.bench.space
    candidates = list({record.candidate.key: record.candidate for record in climbed.store.records}.values())
    growth = growth_of(space)
    assert growth is not None
    apart = distances(growth, candidates)
    groups, rows = points(space, candidates)
    found = np.linalg.norm(rows[:, None] - rows[None], axis=2) * apart.max()
    assert len(groups) == 1  # nothing but the architecture is searched
    np.testing.assert_allclose(found, apart, atol=0.35 * apart.max())
    assert np.corrcoef(found.ravel(), apart.ravel())[0, 1] > 0.9


def test_what_is_learnt_of_networks_decides_on_those_like_them(tmp_path: Path) -> None:
    strategy = {"name": "morphism_bo", "startup_trials": 3, "pool": 6}
    search = searched(tmp_path / "run", 5, strategy)
    assert all(record.origin["parent"] for record in search.store.records[1:])
    for trials in (4, 5):  # killed when the process had been learnt from once
        resumed = searched(tmp_path / "resumed", trials, strategy)
    assert told(resumed) == told(search)
