"""Sparse Optimization (SO): a random, moving support per weight matrix, with Adam moments pruned by importance."""
