r"""The arithmetic of SO: Adam, written once, on whichever entries take part.

Everything here receives tensors and numbers and imports nothing of the package.

Two conventions let entries that take no part lie among those that do without costing an operation:

* an entry that owns no moments has $m = 0$ and $v = -0.0$. Arithmetic ignores the sign, decay
  keeps it, and the first gradient clears it: $-0.0 + (1-\beta_2) g^2 \ge +0.0$. The sign bit of
  $v$ therefore says who belongs to the union;
* adding $-0.0$ to a weight changes nothing, bit for bit, whatever the weight is.

Steps are counted in a tensor on the device, so that a CUDA graph replays the right corrections.
`live` is None, or a number on the device: 1 lets a step happen, 0 makes it change nothing.
"""

import torch
from torch import Tensor

__all__ = ["NOBODY", "adam_move", "add_gradient_", "decay_moments_", "moment_dtype"]

NOBODY = -0.0
"""Second moment of an entry that owns none."""


def moment_dtype(weight: Tensor) -> torch.dtype:
    """Dtype of the moments of a weight: fp32, or wider if the weight is.

    Args:
        weight: The parameter, of any floating dtype.

    Returns:
        The dtype in which moments and updates are computed.
    """
    return torch.promote_types(weight.dtype, torch.float32)


def decay_moments_(
    exp_avg: Tensor, exp_avg_sq: Tensor, betas: tuple[float, float], live: Tensor | None = None
) -> None:
    r"""Let both moments decay: $m \leftarrow \beta_1 m$ and $v \leftarrow \beta_2 v$.

    Args:
        exp_avg: $m$, any shape, changed in place.
        exp_avg_sq: $v$, same shape, changed in place; a negative zero stays one.
        betas: $(\beta_1, \beta_2)$.
        live: 1 or 0 on the device; 0 leaves both as they are.
    """
    for moment, beta in zip((exp_avg, exp_avg_sq), betas, strict=True):
        moment.mul_(beta if live is None else torch.pow(beta, live))


def add_gradient_(
    exp_avg: Tensor, exp_avg_sq: Tensor, grad: Tensor, betas: tuple[float, float]
) -> None:
    r"""Add a gradient: $m \leftarrow m + (1-\beta_1) g$ and $v \leftarrow v + (1-\beta_2) g^2$.

    Args:
        exp_avg: $m$, any shape, changed in place.
        exp_avg_sq: $v$, same shape, changed in place.
        grad: $g$, same shape.
        betas: $(\beta_1, \beta_2)$.
    """
    beta1, beta2 = betas
    exp_avg.add_(grad, alpha=1 - beta1)
    exp_avg_sq.addcmul_(grad, grad, value=1 - beta2)


def adam_move(
    exp_avg: Tensor,
    exp_avg_sq: Tensor,
    steps: Tensor,
    *,
    lr: float | Tensor,
    betas: tuple[float, float],
    eps: float,
) -> Tensor:
    r"""What Adam adds to the weight.

    $$-\eta \, \frac{m / (1-\beta_1^t)}{\sqrt{v / (1-\beta_2^t)} + \varepsilon}$$

    Args:
        exp_avg: $m$, any shape but a number.
        exp_avg_sq: $v$, same shape.
        steps: $t$, one number in float64, or one per entry in the dtype of the moments.
        lr: $\eta$.
        betas: $(\beta_1, \beta_2)$.
        eps: $\varepsilon$.

    Returns:
        The move, same shape and dtype as the moments. For $m = 0$, $v = -0.0$ it is $-0.0$, or NaN
        where $\varepsilon$ is 0.
    """
    beta1, beta2 = betas
    first, second = 1 - torch.pow(beta1, steps), 1 - torch.pow(beta2, steps)
    move = exp_avg / (exp_avg_sq / second).sqrt_().add_(eps)
    if steps.ndim:
        return move.div_(first).mul_(-lr)
    return move.mul_(-lr / first)
