r"""The arithmetic of SO: Adam, written once, on whichever entries take part.

Everything here receives tensors and numbers and imports nothing of the package.

Two conventions let entries that take no part lie among those that do without costing an operation:

* an entry that owns no moments has $m = 0$ and $v = -0.0$. Arithmetic ignores the sign, decay
  keeps it, and the first gradient clears it: $-0.0 + (1-\beta_2) g^2 \ge +0.0$. The sign bit of
  $v$ therefore says who belongs to the union;
* adding $-0.0$ to a weight changes nothing, bit for bit, whatever the weight is. It is what Adam
  gives for $m = 0$, $v = -0.0$.

Both moments lie in one tensor, `moments`, of shape `(2, ...)`. Steps are counted in a tensor on the
device, so that a CUDA graph replays the right corrections.
"""

import torch
from torch import Tensor

__all__ = [
    "NOBODY",
    "adam_move",
    "add_gradient_",
    "bias_corrections",
    "forget_",
    "moment_dtype",
]

NOBODY = -0.0
"""Second moment of an entry that owns none, and the move of a weight that stays."""

INVISIBLE_BELOW = 1e-10
"""From this epsilon on, the root of the smallest normal number added to it rounds away."""

_BITS = {torch.float32: torch.int32, torch.float64: torch.int64}


def moment_dtype(weight: Tensor) -> torch.dtype:
    """Dtype of the moments of a weight: fp32, or wider if the weight is.

    Args:
        weight: The parameter, of any floating dtype.

    Returns:
        The dtype in which moments and updates are computed.
    """
    return torch.promote_types(weight.dtype, torch.float32)


def add_gradient_(moments: Tensor, grad: Tensor, betas: tuple[float, float]) -> None:
    r"""Add a gradient to decayed moments.

    $m \leftarrow m + (1-\beta_1) g$ and $v \leftarrow v + (1-\beta_2) g^2$; decay, which every
    entry of the union has, is a product of `moments` and $(\beta_1, \beta_2)$.

    Args:
        moments: $(m, v)$, shape `(2, ...)`, changed in place.
        grad: $g$, shape `(...)`.
        betas: $(\beta_1, \beta_2)$.
    """
    beta1, beta2 = betas
    moments[0].add_(grad, alpha=1 - beta1)
    moments[1].addcmul_(grad, grad, value=1 - beta2)


def bias_corrections(betas: Tensor, steps: Tensor) -> Tensor:
    r"""Weight of all gradients so far in the moments, $1 - \beta^t$.

    Args:
        betas: $(\beta_1, \beta_2)$, shape `(2,)`, or `(2, 1, ...)` for many counts.
        steps: $t$, one number, or many.

    Returns:
        The corrections of $m$ and of $v$, in the shape that both broadcast to.
    """
    return 1 - torch.pow(betas, steps)


def adam_move(moments: Tensor, corrections: Tensor, lr: float | Tensor, eps: float) -> Tensor:
    r"""What Adam adds to the weight.

    $$-\eta \, \frac{m / (1-\beta_1^t)}{\sqrt{v / (1-\beta_2^t)} + \varepsilon}$$

    Args:
        moments: $(m, v)$, shape `(2, ...)`, each more than a number.
        corrections: What `bias_corrections` gave.
        lr: $\eta$.
        eps: $\varepsilon$.

    Returns:
        The move, shape and dtype of one moment. For $m = 0$, $v = -0.0$ it is $-0.0$, or NaN where
        $\varepsilon$ is 0.
    """
    first, second = corrections
    v_hat = moments[1] / second
    if v_hat.device.type == "cpu" and eps > INVISIBLE_BELOW:
        v_hat.add_(torch.finfo(v_hat.dtype).tiny)  # MKL takes forty times as long for roots of 0
    move = moments[0] / v_hat.sqrt_().add_(eps)
    return move.div_(first).mul_(-lr)


def forget_(moments: Tensor, drop: Tensor) -> None:
    r"""Take the moments of some entries away: $m \leftarrow 0$ and $v \leftarrow -0.0$.

    Written on the bits: unlike a masked fill that has no branch to guess wrong (ten times faster on
    a CPU), and unlike a product it turns infinity into zero.

    Args:
        moments: $(m, v)$, shape `(2, ...)`, changed in place.
        drop: Which entries, bool.
    """
    bits = moments.view(_BITS[moments.dtype])
    gone = drop.to(bits.dtype)
    bits.bitwise_and_(gone - 1)
    bits[1].add_(gone, alpha=torch.iinfo(bits.dtype).min)
