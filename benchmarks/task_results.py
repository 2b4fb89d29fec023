"""Turn finished runs over folders into the tables of docs/results/tasks.md, and their figures into a JSON file.

    python benchmarks/task_results.py runs docs/results/tasks.json bearing cells keywords > tables.md

Everything is read from the runs' files; nothing is measured here.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import polars as pl

import qanas

ORDER = {"baseline": 0, "reference": 1, "found": 2}
COSTS = ("weight_bytes", "file_bytes", "arena_bytes", "macs")


def spread(row: dict[str, Any], column: str) -> str:
    """Return a metric as text: mean +- sd over trainings."""
    mean, deviation, count = (row.get(f"{column}_{part}") for part in ("mean", "std", "n"))
    if mean is None:
        return ""
    return f"{mean:.4g}" if deviation is None or count == 1 else f"{mean:.4g} ± {deviation:.2g}"


def name_of(row: dict[str, Any], recommended: str) -> str:
    """Return what a person calls the model."""
    if row["kind"] == "found":
        name = f"found: {row['described']}"
    elif row["kind"] == "reference":
        name = "reference, its epochs tuned"
    else:
        name = (row["described"] or row["candidate"].removeprefix("baseline-")).replace("the task's ", "")
    name = f"**{name}**" if row["candidate"] == recommended else name
    return f"{name} (degenerate)" if "never predicts" in (row["reason"] or "") or row["degenerate"] else name


def table(folder: Path) -> tuple[str, dict[str, Any]]:
    """Return the table of a run's models in Markdown, and its figures."""
    result = qanas.load(folder)
    verdict = result.summary["verdict"]
    metric = verdict["metric"]
    degenerate = {name for name, card in result.models.items() if card.model_dump().get("degenerate")}
    rows = [
        row | {"degenerate": row["candidate"] in degenerate}
        for row in pl.read_csv(folder / "finalists.csv").iter_rows(named=True)
        if row["status"] in ("shipped", "scored")
    ]
    rows.sort(key=lambda row: (ORDER[row["kind"]], row["weight_bytes"] or 0))
    lines = [
        "| | weight bytes | file bytes | arena bytes | MACs | validation | test | test, 95 % over units |",
        "|---|--:|--:|--:|--:|--:|--:|--:|",
    ]
    for row in rows:
        way = "deployed" if row["weight_bytes"] is not None else "float"
        costs = [f"{row[cost]:,.0f}" if row[cost] is not None else "" for cost in COSTS]
        low, high = (row.get(f"{metric}_{way}_test_{end}") for end in ("low", "high"))
        scores = [spread(row, f"{metric}_{way}_{split}") for split in ("val", "test")]
        between = "" if low is None else f"{low:.4g} to {high:.4g}"
        lines.append(f"| {' | '.join([name_of(row, verdict['recommended']), *costs, *scores, between])} |")
    kept = ("candidate", "described", "kind", "degenerate", *COSTS)
    figures = {
        "recipe": {key: value for key, value in result.recipe.items() if key != "source"},
        "metric": metric,
        "way": result.summary["metrics"][metric],
        "take": next((name_of(row, "") for row in rows if row["candidate"] == verdict["recommended"]), ""),
        "units": verdict["units"] | {"are": verdict["unit"]},
        "effort_cpu_seconds": result.summary.get("effort_cpu_seconds"),
        "trials": result.summary["trials"],
        "sentences": verdict["sentences"],
        "reference_tuning": result.summary.get("reference_tuning"),
        "models": [
            {key: value for key, value in row.items() if key in kept or key.startswith(f"{metric}_")} for row in rows
        ],
    }
    figures["recipe"]["task"] = {**figures["recipe"]["task"], "data": folder.name}
    return "\n".join(lines), figures


def summary(name: str, figures: dict[str, Any]) -> str:
    """Return a run's row of the page's first table: test scores of what was chosen by validation data."""
    metric = figures["metric"]
    sign = 1.0 if figures["way"] == "maximize" else -1.0

    def best(kinds: tuple[str, ...], names: tuple[str, ...] = ("",)) -> str:
        of_kind = [row for row in figures["models"] if row["kind"] in kinds and row["weight_bytes"] is not None]
        of_kind = [row for row in of_kind if row["candidate"].startswith(names) and not row["degenerate"]]
        if not of_kind:
            return "degenerate"
        row = max(of_kind, key=lambda row: sign * float(row[f"{metric}_deployed_val_mean"]))
        return f"{spread(row, f'{metric}_deployed_test')} ({row['weight_bytes']:,.0f} B)"

    constant = next(row for row in figures["models"] if row["candidate"] == "baseline-constant")
    cells = [
        f"[{name}](#{name}), {metric}",
        f"{constant[f'{metric}_float_test_mean']:.4g}",
        best(("baseline",), ("baseline-linear", "baseline-dense")),
        best(("reference",)),
        best(("found",)),
        figures["take"],
    ]
    return f"| {' | '.join(cells)} |"


def main() -> None:
    """Print the tables, write the figures."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("runs", type=Path)
    parser.add_argument("figures", type=Path)
    parser.add_argument("names", nargs="+")
    given = parser.parse_args()
    told, texts = {}, {}
    for name in given.names:
        texts[name], told[name] = table(given.runs / name)
    print("| set, metric | constant | linear or dense on features | reference, tuned | found | the run says: take |")
    print("|---|--:|--:|--:|--:|---|")
    for name, figures in told.items():
        print(summary(name, figures))
    for name, text in texts.items():
        print(f"\n## {name}\n\n{told[name]['metric']}; {told[name]['units']}\n\n{text}\n")
        for sentence in told[name]["sentences"]:
            print(f"> {sentence}\n")
    given.figures.write_text(json.dumps(told, indent=1) + "\n", "utf-8")


if __name__ == "__main__":
    main()
