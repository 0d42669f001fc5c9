"""Few-shot datasets, sampled reproducibly, from the layouts people already have on disk."""

from fewshot_data.loaders import FewShotData, few_shot
from fewshot_data.registry import DatasetSpec, list_datasets, load_spec

__all__ = ["DatasetSpec", "FewShotData", "few_shot", "list_datasets", "load_spec"]
