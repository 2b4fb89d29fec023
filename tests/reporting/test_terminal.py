from io import StringIO

from rich.console import Console

from qanas.core.run_folder import RunFolder
from qanas.reporting.headline import print_models


def _printed(run: RunFolder, width: int = 120) -> str:
    console = Console(file=StringIO(), width=width)
    print_models(console, run)
    assert isinstance(console.file, StringIO)
    return console.file.getvalue()


def test_every_shipped_model_is_printed_with_the_cards_numbers(run: RunFolder) -> None:
    lines = _printed(run).splitlines()
    for name, card in run.cards().items():
        line = next(line for line in lines if line.startswith(f"{name} "))
        found = card.metric("deployed", "test", "mae")
        assert f"{card.weight_bytes:,}" in line
        assert f"{found.mean:.2f} ± {found.std:.2f}" in line


def test_at_80_columns_no_cell_is_broken_and_what_is_left_out_is_told(run: RunFolder) -> None:
    for name, card in run.cards().items():
        described = card.model_copy(update={"described": "8-4 units, 4 bits, two layers of it"})
        (run.model(name) / "card.json").write_text(described.to_json())
    lines = _printed(run, 80).splitlines()
    assert max(map(len, lines)) <= 80
    for name, card in run.cards().items():
        line = next(line for line in lines if line.startswith(f"{name} "))
        for split in ("val", "test"):
            found = card.metric("deployed", split, "mae")
            assert f"{found.mean:.2f} ± {found.std:.2f} ({found.n})" in line
        assert f"{card.weight_bytes:,}" in line
    assert any(line.startswith("No room for ") for line in lines)
    assert "No room for" not in _printed(run, 200)


def test_failures_are_printed_with_their_reason(run: RunFolder) -> None:
    assert "1 finalist failed:\n  m3: parity: 3 steps between simulated and deployed outputs" in _printed(run)


def test_a_run_that_shipped_nothing_says_so(bare_run: RunFolder) -> None:
    assert "no model has shipped yet" in _printed(bare_run)


def test_a_latency_that_was_searched_is_shown_before_other_costs_and_called_fast(run: RunFolder) -> None:
    objectives = {"mae_quantized": "minimize", "latency_ms": "minimize"}
    run.write_recipe(run.read_recipe() | {"objectives": objectives})
    printed = _printed(run, 52)
    assert "latency" not in next(line for line in printed.splitlines() if line.startswith("No room for "))
    sentences = " ".join(printed.split())
    assert "The fastest, m0, has " in sentences
    assert " times faster with " in sentences
