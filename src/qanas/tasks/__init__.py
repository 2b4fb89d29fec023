"""Tasks: data, splits, loss and metrics. A file a task."""
