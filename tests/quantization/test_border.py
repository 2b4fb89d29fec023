"""Names of what a network returns."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

import pytest
from torch import Tensor, nn

from qanas.quantization.border import named_parts
from qanas.quantization.tracing.trace import trace


class Boxes(NamedTuple):
    """As detectors return them."""

    corners: int
    scores: list[int]


@dataclass
class Result:
    """As Hugging Face's models return them: what only training has is None."""

    logits: int
    loss: int | None = None
    boxes: Boxes | None = None


@pytest.mark.parametrize(
    ("returned", "names"),
    [
        (1, {"output": 1}),
        ([1, 2], {"output_0": 1, "output_1": 2}),
        ({"a": 1, "b": (2, {"c": 3})}, {"a": 1, "b_0": 2, "b_1_c": 3}),
        (Boxes(1, [2, 3]), {"corners": 1, "scores_0": 2, "scores_1": 3}),
        (Result(1), {"logits": 1}),
        ((Result(1, boxes=Boxes(2, [3])), 4), {
            "output_0_logits": 1, "output_0_boxes_corners": 2, "output_0_boxes_scores_0": 3, "output_1": 4,
        }),
    ],
)  # fmt: skip
def test_parts_have_the_names_that_their_user_gave(returned: object, names: dict[str, int]) -> None:
    assert named_parts(returned, int) == names


@pytest.mark.parametrize(
    ("returned", "told"),
    [
        ("text", "it is a str, not a tensor"),
        ({"a": "text"}, "output 'a' is a str"),
        (Result, "it is a type"),
        (None, "it is nothing"),
        ({"a": {"b": 1}, "a_b": 2}, "two outputs are called 'a_b'"),
    ],
)
def test_what_is_no_tensor_is_refused_by_its_name(returned: Any, told: str) -> None:  # noqa: ANN401 - of any kind
    with pytest.raises(ValueError, match=told):
        named_parts(returned, int)


class Classifier(nn.Module):
    """Returns its scores, and nothing for a loss that only training has."""

    def __init__(self) -> None:
        super().__init__()
        self.dense = nn.Linear(3, 2)

    def forward(self, x: Tensor) -> Result:
        return Result(self.dense(x), boxes=Boxes(x + 1.0, [x * 2.0]))  # type: ignore[arg-type, list-item]  # as users' are


def test_outputs_of_a_traced_network_have_the_names_of_its_fields() -> None:
    assert trace(Classifier(), (3,)).border.output_names == ("logits", "boxes_corners", "boxes_scores_0")
