"""How often a pack has stepped, kept where its moments are."""

import torch
from torch import Tensor

from so_optim.update import bias_corrections

__all__ = ["Clock"]


class Clock:
    """Step count and the two decay rates on a device.

    Args:
        steps: Steps taken.
        device: Where the moments are.
    """

    def __init__(self, steps: float, device: torch.device) -> None:
        self.steps = torch.full((), float(steps), dtype=torch.float64, device=device)
        self.known: tuple[float, float] | None = None
        self.betas = torch.zeros(2, dtype=torch.float64, device=device)
        self.decays: Tensor | None = None
        self.stay = self.betas

    def decay_(self, moments: Tensor, betas: tuple[float, float], off: Tensor | None) -> None:
        """Let both moments decay, shape `(2, ...)`, in place; if `off`, by the factor 1."""
        shape = (2,) + (1,) * (moments.ndim - 1)
        if self.know(betas) or self.decays is None:
            self.decays = self.betas.to(moments.dtype).view(shape)
            self.stay = torch.ones_like(self.decays[0])
        if off is None:
            moments.mul_(self.decays)
        else:
            moments.mul_(torch.where(off, self.stay, self.decays))

    def know(self, betas: tuple[float, float]) -> bool:
        """Bring the decay rates to the device; tells whether they changed."""
        if tuple(betas) == self.known:
            return False
        self.known = betas[0], betas[1]
        self.betas.copy_(torch.tensor(self.known, dtype=torch.float64))
        return True

    def tick_(self, off: Tensor | None) -> int | Tensor:
        """Count one step unless `off`; returns what was added."""
        one = 1 if off is None else off.logical_not()
        self.steps.add_(one)
        return one

    def corrections(self, age: Tensor | None, dtype: torch.dtype) -> Tensor:
        """Bias corrections of both moments, for all entries or for each by its age."""
        if age is None:
            return bias_corrections(self.betas, self.steps)
        return bias_corrections(self.betas.to(dtype).view(2, 1, 1), age.to(dtype))
