import json
from importlib import resources
from pathlib import Path
from typing import Any

import jsonschema  # type: ignore[import-untyped]
import numpy as np
import pytest
from pydantic import ValidationError

from qanas.core.card import BorderTensor, Card, Latency, NamedTensor, Parity, Statistic, card_schema, common_cost
from qanas.core.measures import Cost
from qanas.core.run_folder import RunFolder, write_atomically


def make_card(name: str = "seed", weight_bytes: int = 880) -> Card:
    statistic = Statistic.of([8.0, 9.0, 10.0], shipped=1)
    return Card(
        candidate=name,
        config={"architecture": {"layers": 1, "units_1": 8}, "training": {"loss": "mae"}, "quantization": {}},
        task={"name": "turbofan", "stride": 3},
        protocol={"trainings": 3, "validation_engines": [3, 7]},
        run_seed=0,
        sha256="0a" * 32,
        input=BorderTensor(shape=[1, 30, 14], dtype="int8", scale=0.05, zero_point=-3),
        output=BorderTensor(shape=[1, 1], dtype="int8", scale=0.5, zero_point=-128),
        preprocessing={"sensors": [2, 3]},
        metrics={"quantized": {"val": {"mae": statistic}}, "deployed": {"test": {"mae": statistic}}},
        weight_bytes=weight_bytes,
        packed_weight_bytes=916,
        file_bytes=4000,
        peak_ram_bytes=768,
        macs=21848,
        latency_ms={"host": Latency(ms=0.05, kernels="LiteRT optimized, 1 thread")},
        parity_steps=Parity(max=1, mean=0.1, n_outputs=100),
    )


def schema_file() -> dict[str, Any]:
    content: dict[str, Any] = json.loads(resources.files("qanas.core").joinpath("card.schema.json").read_text("utf-8"))
    return content


def test_the_schema_file_is_that_of_the_card() -> None:
    assert schema_file() == card_schema()


def test_a_card_is_valid_by_the_schema_file() -> None:
    jsonschema.Draft202012Validator.check_schema(schema_file())
    jsonschema.Draft202012Validator(schema_file()).validate(json.loads(make_card().to_json()))


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("sha256", "xyz"),
        ("schema_version", 2),
        ("macs", 1.5),
        ("colour", "red"),
        ("parity_steps", {"max": 1}),
        ("metrics", {"guessed": {}}),
    ],
)
def test_wrong_fields_are_refused_by_schema_and_by_card(field: str, value: object) -> None:
    wrong = {**json.loads(make_card().to_json()), field: value}
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.Draft202012Validator(schema_file()).validate(wrong)
    with pytest.raises(ValidationError):
        Card.model_validate(wrong)


OPTIONAL = {"schema_version", "inputs", "outputs", "files", "intervals", "kind"}
OPTIONAL |= {"classes", "degenerate", "arena_bytes", "described", "learning", "layer_noise"}


@pytest.mark.parametrize("field", sorted(set(Card.model_fields) - OPTIONAL))
def test_a_missing_field_is_refused(field: str) -> None:
    content = json.loads(make_card().to_json())
    del content[field]
    with pytest.raises(jsonschema.ValidationError, match=field):
        jsonschema.Draft202012Validator(schema_file()).validate(content)
    with pytest.raises(ValidationError, match=field):
        Card.model_validate(content)


def test_several_outputs_are_listed_by_name_in_place_of_one() -> None:
    one = make_card()
    assert one.output is not None
    listed = [NamedTensor(name=name, **one.output.model_dump()) for name in ("boxes", "scores")]
    content = {**json.loads(one.to_json()), "outputs": [tensor.model_dump() for tensor in listed]}
    validator = jsonschema.Draft202012Validator(schema_file())
    assert not validator.is_valid(content), "one and several"
    with pytest.raises(ValidationError, match="'outputs' where there are several"):
        Card.model_validate(content)
    del content["output"]
    validator.validate(content)
    card = Card.model_validate(content)
    assert [tensor.name for tensor in card.outputs] == ["boxes", "scores"]
    assert json.loads(card.to_json()) == content
    assert not validator.is_valid({**content, "outputs": content["outputs"][:1]}), "a list of one"


def test_a_card_round_trips_through_its_text() -> None:
    card = make_card()
    assert Card.model_validate_json(card.to_json()) == card
    assert Card.model_validate_json(card.to_json()).to_json() == card.to_json()


def test_numbers_that_json_lacks_are_not_written() -> None:
    card = make_card().model_copy(update={"parity_steps": Parity(max=1, mean=float("nan"), n_outputs=1)})
    with pytest.raises(ValueError, match="JSON compliant"):
        card.to_json()


def test_statistics_are_those_of_the_sample() -> None:
    statistic = Statistic.of([8.0, 9.0, 13.0], shipped=2)
    assert statistic.shipped == 13.0
    assert statistic.mean == 10.0
    assert statistic.std == pytest.approx(np.sqrt((4.0 + 1.0 + 9.0) / 2.0))
    assert statistic.n == 3
    assert Statistic.of([5.0], shipped=0).std == 0.0


def test_costs_and_metrics_are_found_by_name() -> None:
    card = make_card()
    assert card.metric("quantized", "val", "mae").shipped == 9.0
    assert card.costs() == {
        "weight_bytes": 880.0,
        "packed_weight_bytes": 916.0,
        "file_bytes": 4000.0,
        "peak_ram_bytes": 768.0,
        "macs": 21848.0,
        "latency_ms": 0.05,
    }


def test_cards_of_a_run_come_seed_first_then_by_size(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path)
    for name, size in (("b", 5), ("a", 700), ("seed", 9000), ("c", 5)):
        write_atomically(folder.model(name) / "card.json", make_card(name, size).to_json().encode())
    assert list(folder.cards()) == ["seed", "b", "c", "a"]
    assert folder.cards()["a"] == make_card("a", 700)


@pytest.mark.parametrize(
    ("searched", "known"),
    [
        ([Cost("macs"), Cost("weight_bytes")], Cost("macs")),
        ([Cost("latency_ms", "host"), Cost("macs")], Cost("latency_ms", "host")),
        ([Cost("latency_ms", "board"), Cost("macs")], Cost("macs")),
        ([Cost("macs", float_=True)], Cost("macs")),
        ([], Cost("file_bytes")),
    ],
    ids=["the first", "a device's", "one that a card lacks", "before quantization", "none"],
)
def test_models_are_compared_by_what_was_searched(searched: list[Cost], known: Cost) -> None:
    elsewhere = {"board": Latency(ms=3.0, kernels="a formula"), "host": Latency(ms=2.0, kernels="LiteRT")}
    cards = [make_card(), make_card().model_copy(update={"latency_ms": elsewhere})]
    cost = common_cost(searched, cards)
    assert cost == known
    if cost.device:
        assert [card.paid(cost) for card in cards] == [0.05, 2.0]
