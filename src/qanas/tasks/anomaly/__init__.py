"""Recordings of machines, and which of them are not as they should be."""

from qanas.tasks.anomaly.task import Anomaly

__all__ = ["Anomaly"]
