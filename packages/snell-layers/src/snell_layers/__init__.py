"""Kernelized sparse tuning layers (KLoRA, SNELL) for any torch model, and as a PEFT method."""
