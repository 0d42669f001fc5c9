"""Faults put into real sweeps, and counted: what was lost, done twice, or came out wrong."""

from fewshot_bench.faults.ground import Tally
from fewshot_bench.faults.session import FAULTS, run_faults

__all__ = ["FAULTS", "Tally", "run_faults"]
