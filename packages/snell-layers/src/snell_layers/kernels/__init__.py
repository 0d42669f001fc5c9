"""Compiled kernels of the distance matrix, where their compilers are; nothing is imported here."""
