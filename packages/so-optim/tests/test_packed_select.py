"""Who survives, for all matrices at once, equals sorting each by hand."""

import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from so_optim.packed import select
from so_optim.packed.layout import build_layout


def by_hand(score, free, sizes):
    """Sort the candidates of each member: score, then row, then place."""
    keep = torch.zeros_like(score, dtype=torch.bool)
    start = 0
    for k in sizes:
        slots = [
            (-score[row, j].item(), row, j)
            for row in (0, 1)
            for j in range(start, start + k)
            if row or not free[j]
        ]
        for _, row, j in sorted(slots)[:k]:
            keep[row, j] = True
        start += k
    return keep


@settings(max_examples=150, deadline=None)
@given(
    sizes=st.lists(st.integers(1, 7), min_size=1, max_size=12),
    values=st.integers(1, 6),
    many=st.sampled_from([0, select.MANY_SIZES]),
    seed=st.integers(0, 2**30),
)
def test_equals_sorting_by_hand(sizes, values, many, seed):
    """Few different values make many ties; both ways of selecting are tried."""
    sizes = sorted(sizes)
    generator = torch.Generator().manual_seed(seed)
    total = sum(sizes)
    score = torch.randint(values, (2, total), generator=generator).double()
    free = torch.rand(total, generator=generator) < 0.4
    score[0][free] = 0.0
    layout = build_layout(sizes, [100] * len(sizes), [0] * len(sizes), torch.device("cpu"))
    expected = by_hand(score, free, sizes)
    before, select.MANY_SIZES = select.MANY_SIZES, many
    try:
        found = select.keep_largest(score, free, layout)
    finally:
        select.MANY_SIZES = before
    assert torch.equal(found, expected)
