"""Device files."""
