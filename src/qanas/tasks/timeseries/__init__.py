"""Series of readings, and classes or numbers that are told from their windows."""

from qanas.tasks.timeseries.task import TimeSeries

__all__ = ["TimeSeries"]
