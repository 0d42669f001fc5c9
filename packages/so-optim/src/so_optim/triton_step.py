r"""One step of every matrix in one launch: moments, change, and which entries survive.

A program owns one matrix. It finds the $k$-th largest $|m|$ of its $2 k$ candidates by radix
selection on the bits, which order floats without sign as integers, four at a time. Every pass
makes the new moments again from the old ones, and only the last one writes, so nothing is read
back that another thread has written.

Import this module where it is needed and only where Triton is installed.
"""

from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor

from so_optim.triton_kernels import rounded

__all__ = ["packed_step_triton", "step_members"]

SLOTS = 1024
WEIGHTS = {torch.float16: tl.float16, torch.bfloat16: tl.bfloat16, torch.float32: tl.float32}


@triton.jit
def candidates(
    avg_ptr, sq_ptr, grad_ptr, at, inside, total, beta1, rest1, beta2, rest2, row: tl.constexpr
):
    """New moments of one block of slots, and their keys: the bits of |m|, or -1 for nobody's."""
    avg = tl.load(avg_ptr + row * total + at, mask=inside, other=0.0) * beta1
    sq = tl.load(sq_ptr + row * total + at, mask=inside, other=0.0)
    owned = inside
    if row == 0:
        owned = inside & (sq.to(tl.int32, bitcast=True) >= 0)  # -0.0 is the mark of nobody's
        sq = sq * beta2
    else:
        grad = tl.load(grad_ptr + at, mask=inside, other=0.0)
        avg = tl.fma(grad, rest1, avg)
        sq = tl.fma(grad * rest2, grad, sq * beta2)
    key = tl.where(owned, avg.to(tl.int32, bitcast=True) & 0x7FFFFFFF, -1)
    return avg, sq, key


@triton.jit
def step_members(
    positions_ptr,
    avg_ptr,
    sq_ptr,
    grad_ptr,
    weight_ptr,
    value_ptr,
    starts_ptr,
    sizes_ptr,
    second_ptr,
    scale_ptr,
    live_ptr,
    total,
    beta1,
    rest1,
    beta2,
    rest2,
    eps,
    prune_first: tl.constexpr,
    narrow: tl.constexpr,
    kind: tl.constexpr,
    SLOTS: tl.constexpr,
):
    """Step one member, whose slots are size neighbours from start on in either row."""
    start = tl.load(starts_ptr + tl.program_id(0)).to(tl.int64)
    size = tl.load(sizes_ptr + tl.program_id(0)).to(tl.int32)
    lane = tl.arange(0, SLOTS)
    digits = tl.arange(0, 16)
    found = 0  # leading bits of the threshold
    room = size  # survivors among the keys that begin with them
    for nibble in range(8):
        shift = 28 - 4 * nibble
        count = tl.zeros((16,), dtype=tl.int32)
        for first in range(0, size, SLOTS):
            inside = first + lane < size
            at = start + first + lane
            for row in tl.static_range(2):
                _, _, key = candidates(
                    avg_ptr, sq_ptr, grad_ptr, at, inside, total, beta1, rest1, beta2, rest2, row
                )
                # The first pass compares no bits: -16 << 28 is 0 in 32 bits.
                playing = (key >= 0) & ((key & (-16 << shift)) == found)
                digit = tl.where(playing, (key >> shift) & 15, 16)
                count += tl.sum((digit[:, None] == digits[None, :]).to(tl.int32), axis=0)
        above = tl.sum(count, axis=0) - tl.cumsum(count, axis=0)
        here = (above < room) & (above + count >= room)
        found = found | (tl.sum(tl.where(here, digits, 0), axis=0) << shift)
        room = room - tl.sum(tl.where(here, above, 0), axis=0)
    second = tl.load(second_ptr).to(tl.float32)
    scale = tl.load(scale_ptr).to(tl.float32)
    nobody = tl.full((SLOTS,), -0x80000000, tl.int32).to(tl.float32, bitcast=True)  # -0.0
    changing = tl.where(tl.load(live_ptr) != 0, size, 0)  # slots to write
    equals = 0  # candidates on the threshold so far
    for row in tl.static_range(2):
        for first in range(0, changing, SLOTS):
            inside = first + lane < size
            at = start + first + lane
            avg, sq, key = candidates(
                avg_ptr, sq_ptr, grad_ptr, at, inside, total, beta1, rest1, beta2, rest2, row
            )
            equal = (key == found).to(tl.int32)
            keep = (key > found) | ((equal > 0) & (equals + tl.cumsum(equal, axis=0) <= room))
            equals += tl.sum(equal, axis=0)
            moves = keep if prune_first else key >= 0
            move = tl.div_rn(avg, tl.sqrt_rn(tl.div_rn(sq, second)) + eps) * scale
            spot = tl.load(positions_ptr + row * total + at, mask=moves, other=0).to(tl.int64)
            weight = tl.load(weight_ptr + spot, mask=moves, other=0.0).to(tl.float32)
            if narrow:
                # A weight that somebody else changed no longer is the rounded value: it wins.
                value = tl.load(value_ptr + row * total + at, mask=moves, other=0.0)
                weight = tl.where(rounded(value, kind) == weight, value, weight)
                tl.store(value_ptr + row * total + at, weight + move, mask=moves)
            tl.store(weight_ptr + spot, rounded(weight + move, kind).to(kind), mask=moves)
            tl.store(avg_ptr + row * total + at, tl.where(keep, avg, 0.0), mask=inside)
            tl.store(sq_ptr + row * total + at, tl.where(keep, sq, nobody), mask=inside)


def packed_step_triton(
    positions: Tensor,
    exp_avg: Tensor,
    exp_avg_sq: Tensor,
    grad: Tensor,
    weight: Tensor,
    starts: Tensor,
    sizes: Tensor,
    *,
    steps: Tensor,
    lr: float | Tensor,
    betas: tuple[float, float],
    eps: float,
    prune: str = "after_update",
    value: Tensor | None = None,
    live: Tensor | None = None,
) -> None:
    r"""Advance the moments of all members, move their weights, and keep the largest moments.

    The same as `so_optim.packed.Pack.apply` after its window was opened, with
    `bias_correction="global"` and without decoupled decay, for moments in float32: row 0 of the
    slots decays, row 1 takes the gradient too, everything owned moves by

    $$-\eta \, \frac{m / (1-\beta_1^t)}{\sqrt{v / (1-\beta_2^t)} + \varepsilon},$$

    and of each member the $k$ slots with the largest $|m|$ keep their moments; of equals those of
    row 0 go first, then the lower slot. Nothing waits for the GPU, and only results depend on
    values, so that a CUDA graph can capture the launch.

    Args:
        positions: where each slot's weight is in `weight`, $(2, K)$, int32 or int64; no two owned
            slots at the same place.
        exp_avg: $m$, $(2, K)$, float32, 0 where nobody owns the slot; changed in place.
        exp_avg_sq: $v$, $(2, K)$, float32, -0.0 where nobody owns the slot; changed in place.
        grad: gradient at row 1, $(K,)$, float32, without NaN.
        weight: all weights as one vector, float32, or float16 or bfloat16 with `value`; changed
            in place, unseen by autograd's version counters.
        starts: first slot of each member, $(P,)$, int32 or int64.
        sizes: $k$ of each member, $(P,)$, int32 or int64.
        steps: $t$ with this step counted, one number in float64 on the device.
        lr: $\eta$.
        betas: $(\beta_1, \beta_2)$.
        eps: $\varepsilon$.
        prune: `"after_update"` moves everything owned, `"before_update"` only what is kept.
        value: the weights before they were rounded, $(2, K)$, float32; changed in place.
        live: one number on the device; 0 makes the step change nothing.

    Raises:
        ValueError: if a shape or type does not fit.

    Examples:
        >>> import torch
        >>> from so_optim.triton_sddmm import available
        >>> gpu = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        >>> weight, places = torch.zeros(9, device=gpu), torch.tensor([[4, 7]] * 2, device=gpu)
        >>> m, v = torch.zeros(2, 2, device=gpu), torch.full((2, 2), -0.0, device=gpu)
        >>> grad, one = torch.ones(2, device=gpu), torch.ones((), dtype=torch.float64, device=gpu)
        >>> start, size = torch.tensor([[0], [2]], device=gpu)
        >>> adam = {"steps": one, "lr": 0.5, "betas": (0.9, 0.999), "eps": 1e-8}
        >>> if available(gpu):
        ...     packed_step_triton(places, m, v, grad, weight, start, size, **adam)
        ...     assert [round(w, 6) for w in weight[[4, 7]].tolist()] == [-0.5, -0.5]
    """
    check_slots(positions, exp_avg, exp_avg_sq, grad, value)
    check_weight(weight, value, prune)
    beta1, beta2 = betas
    second, first = 1 - torch.pow(beta2, steps), 1 - torch.pow(beta1, steps)
    step: Any = step_members[(len(starts),)]
    with torch.cuda.device_of(weight):
        step(
            *(positions, exp_avg, exp_avg_sq, grad, weight, exp_avg if value is None else value),
            *(starts, sizes, second, -lr / first, steps if live is None else live),
            *(exp_avg.shape[1], beta1, 1 - beta1, beta2, 1 - beta2, float(eps)),
            prune_first=prune == "before_update",
            narrow=value is not None,
            kind=WEIGHTS[weight.dtype],
            SLOTS=SLOTS,
            num_warps=8,
            enable_fp_fusion=False,  # what is to round once says fma
        )


def check_slots(
    positions: Tensor, exp_avg: Tensor, exp_avg_sq: Tensor, grad: Tensor, value: Tensor | None
) -> None:
    """Refuse slots that the kernel would misread."""
    rows = {"exp_avg": exp_avg, "exp_avg_sq": exp_avg_sq} | (
        {} if value is None else {"value": value}
    )
    shape = (2, grad.numel())
    for name, tensor in ({"positions": positions} | rows).items():
        if tensor.shape != shape or not tensor.is_contiguous():
            raise ValueError(
                f"{name} is {tuple(tensor.shape)}: pass a contiguous {shape}, two per gradient."
            )
    for name, tensor in ({"grad": grad} | rows).items():
        if tensor.dtype != torch.float32 or not tensor.is_contiguous():
            raise ValueError(f"{name} is {tensor.dtype}: pass contiguous float32.")
    if positions.dtype not in (torch.int32, torch.int64):
        raise ValueError(f"positions is {positions.dtype}: pass int32 or int64.")


def check_weight(weight: Tensor, value: Tensor | None, prune: str) -> None:
    """Refuse weights that the kernel would misread, and an unknown order."""
    if weight.ndim != 1 or not weight.is_contiguous() or weight.dtype not in WEIGHTS:
        raise ValueError(
            f"weight is {weight.dtype} {tuple(weight.shape)}: pass one contiguous vector of one of "
            f"{tuple(WEIGHTS)}."
        )
    if (weight.dtype != torch.float32) != (value is not None):
        raise ValueError(
            f"value is {'missing' if value is None else 'given'} with {weight.dtype} weights: pass "
            "it for float16 and bfloat16 weights, and only for those."
        )
    if prune not in ("after_update", "before_update"):
        raise ValueError(f"prune={prune!r} is unknown: pass 'after_update' or 'before_update'.")
