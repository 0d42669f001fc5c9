"""Trained weights as what differs from their base: a small file instead of a whole model."""

from so_optim.delta.delta import Delta, stack

__all__ = ["Delta", "stack"]
