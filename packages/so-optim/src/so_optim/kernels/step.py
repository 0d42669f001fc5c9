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

from so_optim.kernels.products import rounded

__all__ = ["packed_step_triton", "step_members"]

SLOTS = 1024
WEIGHTS = {torch.float16: tl.float16, torch.bfloat16: tl.bfloat16, torch.float32: tl.float32}


@triton.jit
def candidates(moments_ptr, grad_ptr, slot, start, size, total, beta1, rest1, beta2, rest2):
    """One block of a member's candidates, row 0 first: new moments, keys, and where they are.

    The key is the bits of |m|, or -1 for a slot that nobody owns.
    """
    inside = slot < 2 * size
    given = inside & (slot >= size)  # row 1, the slots with a gradient
    at = tl.where(given, total + start + slot - size, start + slot)
    avg = tl.load(moments_ptr + at, mask=inside, other=0.0) * beta1
    old = tl.load(moments_ptr + 2 * total + at, mask=inside, other=0.0)
    grad = tl.load(grad_ptr + at - total, mask=given, other=0.0)
    avg = tl.where(given, tl.fma(grad, rest1, avg), avg)
    sq = old * beta2
    sq = tl.where(given, tl.fma(grad * rest2, grad, sq), sq)
    owned = given | (inside & (old.to(tl.int32, bitcast=True) >= 0))  # -0.0 marks nobody's
    key = tl.where(owned, avg.to(tl.int32, bitcast=True) & 0x7FFFFFFF, -1)
    return avg, sq, key, at


@triton.jit
def step_members(
    positions_ptr,
    moments_ptr,
    grad_ptr,
    weight_ptr,
    value_ptr,
    starts_ptr,
    sizes_ptr,
    corrections_ptr,
    scale_ptr,
    off_ptr,
    total,
    beta1,
    rest1,
    beta2,
    rest2,
    eps,
    prune_first: tl.constexpr,
    may_be_off: tl.constexpr,
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
        for first in range(0, 2 * size, SLOTS):
            _, _, key, _ = candidates(
                moments_ptr, grad_ptr, first + lane, start, size, total, beta1, rest1, beta2, rest2
            )
            # The first pass compares no bits: -16 << 28 is 0 in 32 bits.
            playing = (key >= 0) & ((key & (-16 << shift)) == found)
            digit = tl.where(playing, (key >> shift) & 15, 16)
            count += tl.sum((digit[:, None] == digits[None, :]).to(tl.int32), axis=0)
        above = tl.sum(count, axis=0) - tl.cumsum(count, axis=0)
        here = (above < room) & (above + count >= room)
        # pyrefly: ignore[unsupported-operation]  # Triton's types, not Python's
        found = found | (tl.sum(tl.where(here, digits, 0), axis=0) << shift)
        room = room - tl.sum(tl.where(here, above, 0), axis=0)
    second = tl.load(corrections_ptr + 1).to(tl.float32)
    scale = tl.load(scale_ptr).to(tl.float32)
    nobody = tl.full((SLOTS,), -0x80000000, tl.int32).to(tl.float32, bitcast=True)  # -0.0
    changing = 2 * size
    if may_be_off:
        changing = tl.where(tl.load(off_ptr) != 0, 0, changing)
    equals = 0  # candidates on the threshold so far
    for first in range(0, changing, SLOTS):
        inside = first + lane < 2 * size
        avg, sq, key, at = candidates(
            moments_ptr, grad_ptr, first + lane, start, size, total, beta1, rest1, beta2, rest2
        )
        equal = (key == found).to(tl.int32)
        keep = (key > found) | ((equal > 0) & (equals + tl.cumsum(equal, axis=0) <= room))
        # pyrefly: ignore[unsupported-operation]
        equals += tl.sum(equal, axis=0)
        moves = keep if prune_first else key >= 0
        move = tl.div_rn(avg, tl.sqrt_rn(tl.div_rn(sq, second)) + eps) * scale
        spot = tl.load(positions_ptr + at, mask=moves, other=0).to(tl.int64)
        weight = tl.load(weight_ptr + spot, mask=moves, other=0.0).to(tl.float32)
        if narrow:
            # A weight that somebody else changed no longer is the rounded value: it wins.
            value = tl.load(value_ptr + at, mask=moves, other=0.0)
            weight = tl.where(rounded(value, kind) == weight, value, weight)
            tl.store(value_ptr + at, weight + move, mask=moves)
        tl.store(weight_ptr + spot, rounded(weight + move, kind).to(kind), mask=moves)
        tl.store(moments_ptr + at, tl.where(keep, avg, 0.0), mask=inside)
        tl.store(moments_ptr + 2 * total + at, tl.where(keep, sq, nobody), mask=inside)


def packed_step_triton(
    positions: Tensor,
    moments: Tensor,
    grad: Tensor,
    weight: Tensor,
    starts: Tensor,
    sizes: Tensor,
    *,
    corrections: Tensor,
    lr: float | Tensor,
    betas: tuple[float, float],
    eps: float,
    prune: str = "after_update",
    value: Tensor | None = None,
    off: Tensor | None = None,
) -> None:
    r"""Advance the moments of all members, move their weights, and keep the largest moments.

    The same as `so_optim.packed.pack.Pack.apply` after its window was opened, with
    `bias_correction="global"` and without decoupled decay, for moments in float32: row 0 of the
    slots decays, row 1 takes the gradient too, everything owned moves by

    $$-\eta \, \frac{m / (1-\beta_1^t)}{\sqrt{v / (1-\beta_2^t)} + \varepsilon},$$

    and of each member the $k$ slots with the largest $|m|$ keep their moments; of equals those of
    row 0 go first, then the lower slot. Nothing waits for the GPU, and only results depend on
    values, so that a CUDA graph can capture the launch.

    Args:
        positions: where each slot's weight is in `weight`, $(2, K)$, int32 or int64; no two owned
            slots at the same place.
        moments: $(m, v)$, $(2, 2, K)$, float32, $m = 0$ and $v = -0.0$ where nobody owns the slot;
            changed in place.
        grad: gradient at row 1, $(K,)$, float32, without NaN.
        weight: all weights as one vector, float32, or float16 or bfloat16 with `value`; changed
            in place, unseen by autograd's version counters.
        starts: first slot of each member, $(P,)$, int32 or int64.
        sizes: $k$ of each member, $(P,)$, int32 or int64.
        corrections: $(1-\beta_1^t, 1-\beta_2^t)$ with this step counted, $(2,)$, on the device.
        lr: $\eta$.
        betas: $(\beta_1, \beta_2)$.
        eps: $\varepsilon$.
        prune: `"after_update"` moves everything owned, `"before_update"` only what is kept.
        value: the weights before they were rounded, $(2, K)$, float32; changed in place.
        off: a truth value on the device; if it is true the step changes nothing.

    Raises:
        ValueError: if a shape or type does not fit.

    Examples:
        >>> import torch
        >>> from so_optim.kernels.sddmm import available
        >>> gpu = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        >>> weight, places = torch.zeros(9, device=gpu), torch.tensor([[4, 7]] * 2, device=gpu)
        >>> moments = torch.zeros(2, 2, 2, device=gpu)
        >>> moments[1] = -0.0
        >>> grad, (start, size) = torch.ones(2, device=gpu), torch.tensor([[0], [2]], device=gpu)
        >>> first_step = torch.tensor([0.1, 0.001], device=gpu)
        >>> adam = {"lr": 0.5, "betas": (0.9, 0.999), "eps": 1e-8, "corrections": first_step}
        >>> if available(gpu):
        ...     packed_step_triton(places, moments, grad, weight, start, size, **adam)
        ...     assert [round(w, 4) for w in weight[[4, 7]].tolist()] == [-0.5, -0.5]
    """
    check_slots(positions, moments, grad, value)
    check_weight(weight, value, prune)
    beta1, beta2 = betas
    step: Any = step_members[(len(starts),)]
    with torch.cuda.device_of(weight):
        step(
            *(positions, moments, grad, weight, grad if value is None else value, starts, sizes),
            *(corrections, -lr / corrections[0], corrections if off is None else off),
            *(grad.numel(), beta1, 1 - beta1, beta2, 1 - beta2, float(eps)),
            prune_first=prune == "before_update",
            may_be_off=off is not None,
            narrow=value is not None,
            kind=WEIGHTS[weight.dtype],
            SLOTS=SLOTS,
            num_warps=8,
            enable_fp_fusion=False,  # what is to round once says fma
        )


def check_slots(positions: Tensor, moments: Tensor, grad: Tensor, value: Tensor | None) -> None:
    """Refuse slots that the kernel would misread."""
    k = grad.numel()
    given = {"positions": positions, "moments": moments, "grad": grad, "value": value}
    shapes = {"positions": (2, k), "moments": (2, 2, k), "grad": (k,), "value": (2, k)}
    for name, tensor in given.items():
        if tensor is None:
            continue
        if tensor.shape != shapes[name] or not tensor.is_contiguous():
            raise ValueError(
                f"{name} is {tuple(tensor.shape)}: pass it contiguous and {shapes[name]}, two "
                "slots per gradient."
            )
        allowed = (torch.int32, torch.int64) if name == "positions" else (torch.float32,)
        if tensor.dtype not in allowed:
            raise ValueError(f"{name} is {tensor.dtype}: pass one of {allowed}.")


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
