"""Emulated boards: programs are linked for them, run on them, and measured in bytes and instructions."""
