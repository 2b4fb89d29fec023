"""Where latency comes from: a file a source."""
