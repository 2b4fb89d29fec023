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


def main() -> None:
    """Print the tables, write the figures."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("runs", type=Path)
    parser.add_argument("figures", type=Path)
    parser.add_argument("names", nargs="+")
    given = parser.parse_args()
    told = {}
    for name in given.names:
        text, told[name] = table(given.runs / name)
        print(f"\n## {name}\n\n{told[name]['metric']}; {told[name]['units']}\n\n{text}\n")
        for sentence in told[name]["sentences"]:
            print(f"> {sentence}\n")
    given.figures.write_text(json.dumps(told, indent=1) + "\n", "utf-8")


if __name__ == "__main__":
    main()
