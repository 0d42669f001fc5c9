"""Tensors compared and drawn by their bits, for the tests of deltas."""

import torch

INTEGERS = {1: torch.uint8, 2: torch.int16, 4: torch.int32, 8: torch.int64}


def bits(tensor):
    return tensor.detach().cpu().contiguous().view(INTEGERS[tensor.dtype.itemsize])


def same(ours, theirs):
    """Every tensor of two state dicts has the same bits."""
    return list(ours) == list(theirs) and all(
        ours[k].dtype == theirs[k].dtype and torch.equal(bits(ours[k]), bits(theirs[k]))
        for k in ours
    )


def clones(state):
    return {name: tensor.detach().clone() for name, tensor in state.items()}


def any_bits(shape, dtype, generator):
    """Arbitrary bit patterns, NaN payloads and signed zeros among them."""
    high = 2 if dtype == torch.bool else 256
    size = (*shape, 1 if dtype == torch.bool else dtype.itemsize)
    raw = torch.randint(high, size, dtype=torch.uint8, generator=generator)
    return raw.view(dtype).view(shape)


def changed(tensor, count, generator):
    """A copy with some entries redrawn."""
    new = tensor.clone().view(-1)
    where = torch.randperm(new.numel(), generator=generator)[:count]
    new[where] = any_bits((len(where),), new.dtype, generator)
    return new.view(tensor.shape)
