"""The command `fewshot-data`: what there is, whether it is there, and what would be drawn."""

from fewshot_data.command.main import main

__all__ = ["main"]
