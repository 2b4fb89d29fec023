"""What the command line prints of a finished run."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.table import Table
from rich.text import Text

from qanas.core.run_folder import SEED_ID
from qanas.reporting.headline import sentences
from qanas.reporting.model_table import model_table
from qanas.reporting.run_data import RunData, read_run
from qanas.reporting.wording import count

if TYPE_CHECKING:
    from rich.console import Console

    from qanas.core.run_folder import RunFolder


def print_models(console: Console, folder: RunFolder) -> None:
    """Print the shipped models as a table, then the finalists that failed, with their reasons.

    Raises:
        InputError: the folder holds no run, or a file that can't be read.
    """
    data = read_run(folder)
    for sentence in sentences(data):
        console.print(Text(sentence))
    if data.cards:
        console.print(_table(data))
    else:
        console.print(Text("no model has shipped yet"))
    if data.failures:
        console.print(Text(f"{count(len(data.failures), 'finalist')} failed:", style="bold"))
    for candidate, reason in data.failures:
        console.print(Text(f"  {candidate}: {reason}"), soft_wrap=True)


def _table(data: RunData) -> Table:
    models = model_table(data)
    columns = [column for column in models.columns if column.brief]
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("model", no_wrap=True)
    for column in columns:
        table.add_column(Text(f"{column.title}\n{column.unit}"), justify="right")
    for row, name in enumerate(models.names):
        cells = [Text(column.cells[row].text) for column in columns]
        table.add_row(Text(name), *cells, style="dim" if name == SEED_ID else None)
    return table
