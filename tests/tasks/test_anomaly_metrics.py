"""Areas under the ROC curve, against scikit-learn's."""

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from qanas.tasks.anomaly import Anomaly
from qanas.tasks.anomaly.metrics import roc_area
from qanas.tasks.resampling import drawn_units, resampled_metrics
from qanas.tasks.samples import Split


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("values", [3, 1000])
def test_areas_are_scikit_learns(seed: int, values: int) -> None:
    generator = np.random.default_rng(seed)
    anomalous = generator.random(60) < 0.3
    scores = generator.integers(0, values, 60) + values * 0.3 * anomalous
    assert roc_area(scores, anomalous) == pytest.approx(roc_auc_score(anomalous, scores))
    assert roc_area(scores, anomalous, 0.1) == pytest.approx(roc_auc_score(anomalous, scores, max_fpr=0.1))


@pytest.mark.parametrize("seed", range(20))
@pytest.mark.parametrize("values", [4, 1000])
def test_areas_are_scikit_learns_where_scores_tell_nothing(seed: int, values: int) -> None:
    """The lowest score is then often an anomaly's, and a tenth of 20 normal ones is a point of the curve."""
    generator = np.random.default_rng(seed)
    anomalous = generator.permutation(np.arange(32) < 12)
    scores = generator.integers(0, values, 32).astype(np.float64)
    assert roc_area(scores, anomalous) == pytest.approx(roc_auc_score(anomalous, scores))
    assert roc_area(scores, anomalous, 0.1) == pytest.approx(roc_auc_score(anomalous, scores, max_fpr=0.1))


def test_one_kind_alone_has_none() -> None:
    assert np.isnan(roc_area(np.arange(3.0), np.zeros(3, bool)))


def test_a_recording_counts_in_a_draw_as_often_as_it_was_drawn() -> None:
    recordings, inputs = 12, 3
    errors = np.random.default_rng(0).exponential(1.0, recordings)
    number, anomalous = np.arange(recordings).repeat(inputs), np.arange(recordings) % 3 == 0
    nothing = np.zeros((recordings * inputs, 4), np.float32)
    extras = {"recording": number, "group": number // 2, "anomalous": anomalous.repeat(inputs)}
    split = Split(nothing, nothing, extras)
    outputs = nothing + np.sqrt(errors[number])[:, None].astype(np.float32)
    found = resampled_metrics(Anomaly("synthetic"), outputs, split)
    for place, draw in enumerate(drawn_units(recordings // 2)):
        chosen = np.concatenate([[2 * unit, 2 * unit + 1] for unit in draw])
        normal = chosen[~anomalous[chosen]]
        assert found["error"][place] == pytest.approx(errors[normal].mean())
        area = roc_auc_score(anomalous[chosen], errors[chosen]) if anomalous[chosen].any() else np.nan
        assert found["auc"][place] == pytest.approx(area, nan_ok=True)
