"""Who decides on the parameters of what is put side by side."""

import torch
from torch import Tensor, nn

from qanas.quantization.quantized_graph import QuantizedGraph
from qanas.quantization.scheme import Scheme
from qanas.quantization.tracing import trace


class Beside(nn.Module):
    """Overlapping parts of a small value, side by side, beside something of another size."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Conv2d(3, 4, 1)

    def forward(self, x: Tensor) -> Tensor:
        small = 0.01 * torch.relu(self.layer(x))
        return torch.cat([torch.cat([small[:, :2], small[:, 1:]], 1), torch.tanh(x)], 1)


def test_parts_of_one_value_do_not_decide_on_what_they_are_beside() -> None:
    torch.manual_seed(0)
    samples = torch.randn(16, 3, 4, 5)
    graph = trace(Beside().eval(), (3, 4, 5))
    quantized = QuantizedGraph.quantize(graph, graph.calibrate(samples), Scheme())
    inner, outer = (name for name in graph.shapes if name.startswith("cat"))
    assert quantized.affines[inner] is quantized.affines[graph.nodes[1].name], "the parts keep the whole's"
    low, high = quantized.affines[outer].span
    assert low < -0.9
    assert high > 0.9
    gap = (quantized.forward(samples) - graph.forward(samples)).abs().max()
    assert float(gap) < 3 * quantized.output.scale, "one step each: in front, in the table, behind"


class Halved(nn.Module):
    """Parts of parts of one value, ever deeper."""

    def forward(self, x: Tensor) -> Tensor:
        y = x
        for _ in range(40):
            y = torch.cat([y[:, 2:], y[:, :2]], 1)
        return torch.cat([y, torch.relu(x)], 1)


def test_a_long_chain_of_parts_is_looked_at_once() -> None:
    graph = trace(Halved(), (4, 2, 3))
    assert list(graph.shared.values()) == [graph.output]
    quantized = QuantizedGraph.from_shapes(graph, Scheme())
    kinds = [operator.kind for operator in quantized.program().operators]
    assert kinds.count("CONCATENATION") == 41
    assert kinds[-2:] == ["QUANTIZE", "CONCATENATION"]
