"""The surrogate of a block's table: predicted scores, and a race that begins with them."""

import itertools
from collections import Counter
from collections.abc import Sequence

import numpy as np
import pytest
from numpy.typing import NDArray

from qanas.core.pareto import non_dominated
from qanas.performance_estimation.block_table.layers import Bits, Row
from qanas.performance_estimation.block_table.predicting import PairModel, Predictions, rows_to_fit
from qanas.performance_estimation.block_table.racing import race
from qanas.search_space.quantization_group import BitsPer

OPTIONS = (3, 4, 2)
PATHS = list(itertools.product(*map(range, OPTIONS)))
BITS: dict[BitsPer, list[Bits]] = {"block": [(4, 4, 4), (8, 8, 8)], "layer": list(itertools.product((4, 8), repeat=3))}
ALL = [Row(bits, path) for bits in BITS["layer"] for path in PATHS]


def scores_of(rows: list[Row], noise: float = 0.0, samples: int = 5) -> NDArray[np.float64]:
    """Products of an effect for each option with its bits."""
    generator = np.random.default_rng(0)
    effects = {bits: [generator.uniform(0.5, 2.0, (count, samples)) for count in OPTIONS] for bits in (4, 8)}
    layers = range(len(OPTIONS))
    scores = np.array([np.prod([effects[bits[n]][n][path[n]] for n in layers], axis=0) for bits, path in rows])
    # One miss a row, the same on all samples: what a sum over the layers leaves out of a path.
    misses = dict(zip(ALL, np.random.default_rng(1).normal(0.0, noise, len(ALL)), strict=True))
    return scores * np.exp([[misses[row]] for row in rows])


@pytest.mark.parametrize("per", ["block", "layer"])
def test_what_is_additive_is_predicted_exactly(per: BitsPer) -> None:
    known = rows_to_fit(OPTIONS, (4, 8), per, 0)
    assert {row.bits for row in known} <= set(BITS[per])
    model = PairModel.fitted(OPTIONS, known, scores_of(known))
    rows = [Row(bits, path) for bits in BITS[per] for path in PATHS]
    np.testing.assert_allclose(model.predict(rows), scores_of(rows), rtol=1e-4)
    assert model.error < 1e-4


def test_the_error_is_that_of_rows_left_out() -> None:
    """Against the plain way: a model without a row predicts it."""
    known = rows_to_fit(OPTIONS, (8,), "block", 0)
    scores = scores_of(known, noise=0.05)
    model = PairModel.fitted(OPTIONS, known, scores)
    misses = []
    for position, row in enumerate(known):
        others = [other for other in range(len(known)) if other != position]
        without = PairModel.fitted(OPTIONS, [known[other] for other in others], scores[others])
        misses.append(np.log(scores[position] / without.predict([row])[0]).mean())
    # The penalty is chosen anew without a row.
    assert model.error == pytest.approx(np.sqrt(np.mean(np.square(misses))), rel=0.2)
    assert 0.02 < model.error < 0.1


def test_an_option_that_one_row_has_alone_is_not_trusted() -> None:
    rows: list[Row] = [
        Row.alike(8, (0, 0, 0)),
        Row.alike(8, (1, 1, 1)),
        Row.alike(8, (1, 1, 0)),
        Row.alike(8, (1, 0, 1)),
        Row.alike(8, (2, 1, 0)),
    ]
    assert PairModel.fitted(OPTIONS, rows, scores_of(rows, 0.05)).error > 0.2


@pytest.mark.parametrize(
    ("options", "per"), [((6, 6, 6, 6), "block"), ((6, 6, 6), "layer"), ((3, 2), "block"), ((5,), "block")]
)
def test_every_option_is_equally_frequent_among_the_rows(options: tuple[int, ...], per: BitsPer) -> None:
    rows = rows_to_fit(options, (4, 8), per, 3)
    assert len(set(rows)) == len(rows)
    for width in (4, 8):
        for layer, count in enumerate(options):
            seen = Counter(path[layer] for bits, path in rows if bits[layer] == width)
            assert set(seen) == set(range(count))
            # Rows that are drawn twice count once.
            assert max(seen.values()) - min(seen.values()) <= 0.35 * max(seen.values())


def test_a_race_that_begins_with_predictions_keeps_the_front() -> None:
    """Paths are 1 % off a sum over their layers, samples 3 %; options cost the more, the less noise they have."""
    options = (6, 6, 6)
    rows: list[Row] = [Row.alike(8, path) for path in itertools.product(*map(range, options))]
    generator = np.random.default_rng(2)
    effects = [np.sort(generator.uniform(-0.5, 0.5, count)) for count in options]
    sizes = [np.sort(generator.integers(10, 1000, count))[::-1] for count in options]
    logarithms = np.array([sum(effect[o] for effect, o in zip(effects, path, strict=True)) for _, path in rows])
    difficulty = generator.normal(0.0, 0.3, 60)
    scores = np.exp(
        logarithms[:, None]
        + generator.normal(0.0, 0.01, (len(rows), 1))
        + difficulty
        + generator.normal(0.0, 0.03, (len(rows), 60))
    )
    costs = np.array([[sum(size[o] for size, o in zip(sizes, path, strict=True))] for _, path in rows], float)
    positions = {row: position for position, row in enumerate(rows)}

    def score(samples: Sequence[int], asked: Sequence[Row]) -> NDArray[np.float64]:
        return scores[np.ix_([positions[row] for row in asked], samples)]

    front = set(non_dominated(np.column_stack([scores.mean(axis=1), costs])).tolist())
    kept, scored = 0, []
    for seed in range(20):
        order = np.random.default_rng(seed).permutation(60).tolist()
        predictions = Predictions(options, score, 4, 0.0)
        predictions.learn(order[:4], rows_to_fit(options, (8,), "block", seed))
        left = race([predictions], rows, costs, order, 4.0).alive
        scored.append(len(left))
        kept += front <= set(left.tolist())
    assert kept >= 19
    assert np.median(scored) < 0.5 * len(rows), scored
