"""The ruler: accuracy, peak memory and step time of every method on every backbone."""
