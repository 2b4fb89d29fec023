"""What a network costs: bytes, operations, memory, latency. Knows nothing of the search."""
