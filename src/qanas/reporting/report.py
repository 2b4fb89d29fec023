"""report.html: one page that opens offline and needs no other file."""

from __future__ import annotations

from typing import TYPE_CHECKING

from qanas.core.run_folder import RunFolder, write_atomically
from qanas.reporting import headline
from qanas.reporting.block_effort import stages
from qanas.reporting.block_front_plot import block_front_plot, shipped_plot
from qanas.reporting.block_plot import block_plot
from qanas.reporting.example_images import gallery
from qanas.reporting.front_plot import front_plot
from qanas.reporting.importance_plot import importance_note, importance_plot
from qanas.reporting.layer_strips import layer_strips
from qanas.reporting.model_table import metric_table, model_table
from qanas.reporting.page import render_page
from qanas.reporting.parallel_plot import parallel_plot
from qanas.reporting.prediction_plots import prediction_plots
from qanas.reporting.predictions import read_predictions
from qanas.reporting.progress_plot import progress_plot
from qanas.reporting.protocol import protocol, reasons, versions
from qanas.reporting.quantization_plot import quantization_plot
from qanas.reporting.run_data import RunData, read_run

if TYPE_CHECKING:
    from pathlib import Path

_TEMPLATE = "report.html.jinja"


def write_report(folder: RunFolder) -> Path:
    """Write the report of a run, finished or not.

    Args:
        folder: of the run; only recipe.toml must be there.

    Returns:
        The page's path.

    Raises:
        InputError: the folder holds no run, or a file that can't be read.
    """
    write_atomically(folder.report, render(read_run(folder)).encode())
    return folder.report


def render(data: RunData) -> str:
    """Return the page."""
    kept = read_predictions(data)
    front = block_front_plot(data) if data.blockwise else front_plot(data)
    shipped, blocks = shipped_plot(data), block_plot(data)
    progress, predictions = progress_plot(data), prediction_plots(kept)
    quantization, importance, parallel = quantization_plot(data), importance_plot(data), parallel_plot(data)
    return render_page(
        _TEMPLATE,
        [front, shipped, quantization, blocks, *predictions, progress, importance, parallel],
        name=data.folder.path.resolve().name,
        heading=headline.heading(data),
        sentences=headline.sentences(data),
        status=data.summary.get("status", "no summary yet"),
        missing=data.missing,
        front=front,
        stages=stages(data),
        shipped=shipped,
        blocks=blocks,
        models=model_table(data) if data.cards else None,
        metrics=metric_table(data),
        layers=layer_strips(data),
        failures=data.failures,
        predictions=predictions,
        gallery=gallery(data, kept),
        progress=progress,
        quantization=quantization,
        importance=importance,
        importance_note=importance_note(data),
        parallel=parallel,
        protocol=protocol(data),
        versions=versions(data),
        outcomes=data.outcomes,
        reasons=reasons(data),
        recipe=data.folder.recipe.read_text("utf-8"),
    )
