"""What shipped models predicted, a file a kind of prediction, each drawn where a run kept its arrays."""
