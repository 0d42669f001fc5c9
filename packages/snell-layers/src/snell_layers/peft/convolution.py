"""The PEFT tuner layer of convolutions that are a linear map on patches which do not overlap."""

from typing import Any, cast

from torch import Tensor, nn

from snell_layers.factors import SnellFactors
from snell_layers.layer import merges_exactly, with_updates

from .adapter import SnellAdapter

__all__ = ["SnellConv2dAdapter"]


class SnellConv2dAdapter(SnellAdapter):
    r"""A 1x1 or patch convolution, $y_{pq} = (W + \Delta W)\,\mathrm{patch}_{pq}(x) + b$.

    The weight `(out, in, kh, kw)` is read as a matrix `(out, in * kh * kw)`; a patch is a reshape
    of the input, exactly, because the kernel equals the stride (or is 1x1).
    """

    @classmethod
    def problem(cls, base: Any) -> str | None:
        """Why a convolution is no linear map on separate patches; `None` if it is."""
        if base.groups != 1:
            return f"has groups={base.groups}"
        if base.padding not in ("valid", (0, 0)):
            return f"has padding={base.padding}"
        if base.kernel_size == (1, 1):
            return None
        if base.kernel_size != base.stride:
            return f"has kernel {base.kernel_size} at stride {base.stride}, so patches overlap"
        return None if base.dilation == (1, 1) else f"has dilation={base.dilation}"

    @classmethod
    def shapes(cls, base: Any, module_name: str) -> dict[str, tuple[int, int]]:
        """Output channels, and entries of one patch."""
        return {module_name: (base.out_channels, base.weight[0].numel())}

    def forward(self, x: Tensor) -> Tensor:
        """`(batch, in, height, width)` or one image without batch, as the base convolution."""
        active = cast(list[SnellFactors], self.active_factors())
        if not active:
            return self.base_layer(x)
        if x.dim() == 3:
            return self.forward(x.unsqueeze(0)).squeeze(0)
        base = cast(nn.Conv2d, self.base_layer)
        plain = type(base) is nn.Conv2d and merges_exactly(base, x, plain=True)
        y = with_updates(
            _patches(x, base),
            active,
            base.weight.flatten(1) if plain else None,
            base.bias,
            lambda: base(x).permute(0, 2, 3, 1),
        )
        return y.permute(0, 3, 1, 2)

    def get_delta_weight(self, adapter_name: str) -> Tensor:
        """The update of one adapter, `(out, in, kh, kw)`; float32 or wider, detached."""
        delta = cast(SnellFactors, self.snell_factors[adapter_name]).delta()
        return delta.view_as(self.weight)


def _patches(x: Tensor, base: nn.Conv2d) -> Tensor:
    """`(batch, in, height, width)` to `(batch, rows, columns, in * kh * kw)`."""
    if base.kernel_size == (1, 1):
        down, right = base.stride
        return x[..., ::down, ::right].permute(0, 2, 3, 1)
    kh, kw = base.kernel_size
    rows, columns = x.shape[-2] // kh, x.shape[-1] // kw
    x = x[..., : rows * kh, : columns * kw].unflatten(-1, (columns, kw)).unflatten(-3, (rows, kh))
    return x.permute(0, 2, 4, 1, 3, 5).flatten(3)
