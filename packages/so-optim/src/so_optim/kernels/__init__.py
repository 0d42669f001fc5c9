"""Triton kernels, where Triton is installed: the sampled product and the packed step.

Nothing imports this package on a machine without a GPU, except under Triton's interpreter.
"""
