"""A network of one's own to a file, without a search."""
