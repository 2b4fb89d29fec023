"""Areas under the ROC curve, against scikit-learn's."""

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from qanas.tasks.anomaly.metrics import roc_area


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
