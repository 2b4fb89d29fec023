"""Whole jobs: sampled search, finalists, export, verify."""
