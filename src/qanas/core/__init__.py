"""Values that every layer shares, and the files of a run: no torch, no search library."""
