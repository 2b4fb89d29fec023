"""What a recipe changes of a scheme, for single layers and for all: ``[quantization]``."""

from __future__ import annotations

import io
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import tomli_w
from rich.console import Console
from tests.workflows.tiny_blocks import Blobs, TinySpace

from qanas.core.errors import InputError
from qanas.core.run_folder import RunFolder
from qanas.performance_estimation.bench import Bench, PreparedData
from qanas.quantization.scheme import Scheme
from qanas.recipe import load_plan
from qanas.reporting.live import LiveDisplay
from qanas.shipping.shipped import verify_models
from qanas.workflows.run import run_search

if TYPE_CHECKING:
    from tests.workflows.conftest import MakePlan

FOUR_BITS = {"quantization": {"layers": {"conv": {"weight_bits": 4}}}}
TWO_TO_A_BYTE = {"quantization": {"container": "int4", **FOUR_BITS["quantization"]}}


def test_a_layers_bits_hold_in_the_search_and_in_what_ships(make_plan: MakePlan, tmp_path: Path) -> None:
    """Some candidates are LSTMs, which have no such layer: they are quantized as if nothing was said of it."""
    folder = RunFolder(tmp_path / "run")
    plan = make_plan(**TWO_TO_A_BYTE, strategy={"trials": 8}, finalists={"count": 4, "seeds": 1})
    run_search(plan, folder, LiveDisplay(Console(file=io.StringIO())))
    assert folder.read_recipe()["quantization"] == {"scheme": "int8", **TWO_TO_A_BYTE["quantization"]}
    cards = folder.cards()
    for card in cards.values():
        convolution = card.config["architecture"]["kind"] == "conv"
        assert card.protocol["quantization"].endswith("conv: weight_bits 4") == convolution
        assert ("weights of 4 bits in int4 tensors" in card.protocol["quantization"]) == convolution
        assert card.parity_steps.max == 0
    assert {card.config["architecture"]["kind"] for card in cards.values()} == {"conv", "lstm"}
    assert [verdict.differences for verdict in verify_models(plan, folder)] == [()] * len(cards)
    # The reference has three channels of three taps on one input: five bytes, the last one half filled.
    whole = make_plan().bench.costs_of(plan.bench.reference)
    assert whole["weight_bytes"] - cards["seed"].weight_bytes == 9 - 5
    assert whole["packed_weight_bytes"] - cards["seed"].packed_weight_bytes == 9 - 5


@pytest.mark.parametrize("changes", [FOUR_BITS, TWO_TO_A_BYTE, {"quantization": {"layers": {}}}])
def test_a_resolved_recipe_reads_the_same(
    make_plan: MakePlan, tmp_path: Path, changes: dict[str, dict[str, Any]]
) -> None:
    plan = make_plan(**changes)
    path = tmp_path / "resolved.toml"
    path.write_text(tomli_w.dumps(plan.recipe), "utf-8")
    assert load_plan(path).recipe == plan.recipe
    assert load_plan(path).bench.scheme == plan.bench.scheme == Scheme(**changes["quantization"])


def test_what_is_changed_holds_under_every_scheme_of_a_sweep(make_plan: MakePlan) -> None:
    plan = make_plan(quantization={"scheme": "auto", **TWO_TO_A_BYTE["quantization"]})
    swept = plan.with_scheme("symmetric_per_tensor").bench.scheme
    assert (swept.activations, swept.container) == ("symmetric", "int4")
    assert dict(swept.layers) == {"conv": {"weight_bits": 4}}


def test_a_layer_that_the_seed_network_lacks_is_refused_before_anything_is_trained(make_plan: MakePlan) -> None:
    with pytest.raises(InputError, match=r"^quantization\.layers\.lstms: the network has no such layer; it has input"):
        make_plan(quantization={"layers": {"lstms": {"weight_bits": 4}}})


def test_a_recipes_bits_hold_over_those_that_are_searched() -> None:
    """The first block's are fixed, as those of one layer of the second; what else is given for a block stays."""
    networks, task = TinySpace(weight_bits=(4, 8)), Blobs()
    layers: dict[str, dict[str, Any]] = {
        "blocks.0": {"weight_bits": 6},
        "blocks.1": {"scales": "power_of_two"},
        "blocks.1.0": {"weight_bits": 8},
    }
    bench = Bench(PreparedData(task), networks, scheme=Scheme(layers=layers))
    for bits in (4, 8):
        searched = {"weight_bits_0": bits, "weight_bits_1": bits}
        candidate = replace(bench.reference, quantization={**bench.reference.quantization, **searched})
        scheme = bench.scheme_of(candidate, bench.blueprint(candidate).graph.shapes)
        found = [scheme.of(node) for node in ("blocks_0_0", "blocks_1_0", "blocks_1_1", "stem")]
        assert [own.weight_bits for own in found] == [6, 8, bits, 8]
        assert [own.scales for own in found] == ["real", "power_of_two", "power_of_two", "real"]
