"""Step time, memory and optimizer cost of SO beside its opponents."""

__all__: list[str] = []
