"""report.html: one page that opens offline and needs no other file."""

from __future__ import annotations

import shlex
from datetime import datetime
from typing import TYPE_CHECKING

from qanas.core.run_folder import DONE, RunFolder, write_atomically
from qanas.reporting import headline
from qanas.reporting.blocks import block_plot, stages
from qanas.reporting.figures import render_page
from qanas.reporting.front_plot import front_plot
from qanas.reporting.layer_strips import layer_strips
from qanas.reporting.learning_plots import learning_plots
from qanas.reporting.model_plots import noise_plot, quantization_plot, shipped_plot
from qanas.reporting.models import class_table, costs_note, metric_table, model_table
from qanas.reporting.protocol import protocol, reasons, versions
from qanas.reporting.run_data import RunData, read_predictions, read_run
from qanas.reporting.search_plots import importance_note, importance_plot, parallel_plot, progress_plot
from qanas.reporting.views.boxes import box_gallery
from qanas.reporting.views.classes import confusion_plot
from qanas.reporting.views.masks import gallery
from qanas.reporting.views.series import series_plots
from qanas.reporting.views.wrong import wrong_tables

if TYPE_CHECKING:
    from pathlib import Path

_TEMPLATE = "report.html.jinja"


def write_report(folder: RunFolder, doing: str = "") -> Path:
    """Write the report of a run, finished or not.

    Args:
        folder: of the run; only recipe.toml must be there.
        doing: what a run does that goes on: a page that is open is loaded anew until it is over.

    Returns:
        The page's path.

    Raises:
        InputError: the folder holds no run, or a file that can't be read.
    """
    write_atomically(folder.report, render(read_run(folder), doing).encode("utf-8", "replace"))
    return folder.report


def render(data: RunData, doing: str = "") -> str:
    """Return the page, of a run that goes on with what it is doing."""
    kept = read_predictions(data)
    front, shipped, blocks, progress = front_plot(data), shipped_plot(data), block_plot(data), progress_plot(data)
    predictions = [figure for figure in (*series_plots(kept), confusion_plot(data, kept)) if figure is not None]
    learning = learning_plots(data)
    quantization, importance, parallel = quantization_plot(data), importance_plot(data), parallel_plot(data)
    noise = noise_plot(data)
    return render_page(
        _TEMPLATE,
        [front, shipped, quantization, noise, *learning, blocks, *predictions, progress, importance, parallel],
        name=data.folder.path.resolve().name,
        typed=shlex.quote(data.folder.path.resolve().name),
        heading=headline.heading(data),
        sentences=headline.sentences(data),
        status=data.summary.get("status", "no summary yet"),
        done=data.summary.get("status") == DONE,
        missing=data.missing,
        doing=doing,
        written=datetime.now().astimezone(),
        front=front,
        stages=stages(data),
        shipped=shipped,
        blocks=blocks,
        costs_note=costs_note(data),
        models=model_table(data) if data.cards else None,
        metrics=metric_table(data),
        classes=class_table(data),
        learning=learning,
        baselines=data.baselines,
        described={name: card.described or card.protocol.get("baseline", "") for name, card in data.cards.items()},
        goal=next((f"{metric.name}=..." for metric in data.scores), "metric=..."),
        layers=layer_strips(data),
        failures=data.failures,
        degenerate=data.degenerate,
        predictions=predictions,
        gallery=gallery(data, kept) or box_gallery(data, kept),
        wrong=wrong_tables(data, kept),
        progress=progress,
        quantization=quantization,
        noise=noise,
        importance=importance,
        importance_note=importance_note(data),
        parallel=parallel,
        protocol=protocol(data),
        versions=versions(data),
        outcomes=data.outcomes,
        reasons=reasons(data),
        recipe=data.folder.recipe.read_text("utf-8", "surrogateescape"),
    )
