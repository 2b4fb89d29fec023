"""Trainers whose two passes are compiled: a vector type, the step around the passes, LSTMs and TCNs.

Nothing is imported here, so that `supports` doesn't load Numba.
"""
