"""Many candidates trained at once: their weights lie in one tensor, their steps are one graph.

Made for GPUs, where a small network's step is mostly waiting for launches; on a CPU the compiled kernels of single
candidates are faster.
"""
