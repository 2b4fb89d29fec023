"""Tasks see every output of a network that has several."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from qanas.deployment.litert import LiteRTModel
from qanas.deployment.tflite import write_tflite
from qanas.performance_estimation.procedure import TrainedNetwork
from qanas.quantization.quantized_graph import QuantizedGraph
from qanas.quantization.scheme import Scheme
from qanas.quantization.tracing import trace
from qanas.shipping.finalists import _score
from qanas.tasks.samples import Split


class TwoHeads(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.body, self.scores, self.boxes = nn.Linear(5, 8), nn.Linear(8, 3), nn.Linear(8, 4)

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        found = torch.relu(self.body(x))
        return {"scores": self.scores(found), "boxes": 300.0 * torch.sigmoid(self.boxes(found))}


class Recorded:
    """A task as far as it is asked: it keeps what it was given."""

    metrics: ClassVar[Mapping[str, str]] = {"sum": "minimize", "n": "minimize"}

    def __init__(self) -> None:
        self.seen: list[Mapping[str, NDArray[Any]]] = []

    def evaluate(self, outputs: Mapping[str, NDArray[Any]], split: Split) -> dict[str, float]:
        self.seen.append(outputs)
        return {"sum": float(outputs["scores"].sum() + outputs["boxes"].sum()), "n": float(len(split))}


def made() -> tuple[TrainedNetwork, Split]:
    torch.manual_seed(0)
    network = TwoHeads().eval()
    samples = torch.randn(60, 5)
    graph = trace(network, (5,))
    quantized = QuantizedGraph.quantize(graph, graph.calibrate(samples), Scheme())
    return TrainedNetwork(network, quantized, 0.0), Split(samples.numpy(), np.zeros(60, np.float32))


def test_a_task_is_given_all_outputs_by_name_in_float_and_quantized() -> None:
    trained, split = made()
    task: Any = Recorded()
    scores = trained.evaluate(task, split)
    assert set(scores) == {"sum_float", "sum_quantized", "n_float", "n_quantized"}
    real, quantized = task.seen
    with torch.no_grad():
        wanted = trained.network(torch.from_numpy(split.inputs))
    for name, values in wanted.items():
        np.testing.assert_allclose(real[name], values.numpy(), rtol=1e-6)
        steps = np.abs(quantized[name] - values.numpy()).max() / trained.quantized.outputs[name].scale
        assert 0 < steps < 12, name


def test_the_deployed_file_is_scored_on_all_outputs() -> None:
    trained, split = made()
    content = write_tflite(trained.quantized.program())
    model = LiteRTModel(content, border=trained.quantized.graph.border)
    task: Any = Recorded()
    scored = _score(task, trained, model, split)
    assert set(scored.outputs) == {"scores", "boxes"}
    for name, codes in scored.simulated.items():
        np.testing.assert_array_equal(codes, scored.deployed[name])
    assert scored.metrics["quantized"] == scored.metrics["deployed"]
