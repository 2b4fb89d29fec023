"""A model as one C file that needs no interpreter: calls of kernels over weights and memory that were laid out here."""
