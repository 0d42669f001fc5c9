"""Sparse Optimization (SO): a moving random support per matrix, Adam moments kept by importance."""

from so_optim.optimizer import SO
from so_optim.settings import PRESETS
from so_optim.support import support_size

__all__ = ["PRESETS", "SO", "support_size"]
