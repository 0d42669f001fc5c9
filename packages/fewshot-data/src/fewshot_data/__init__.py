"""Few-shot datasets, sampled reproducibly, from the layouts people already have on disk."""
