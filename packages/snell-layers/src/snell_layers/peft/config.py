"""The configuration of a SNELL adapter, as PEFT stores it in `adapter_config.json`."""

from dataclasses import dataclass, field
from typing import Any

from peft import PeftConfig
from peft.utils.other import get_pattern_key

from snell_layers.recompute import MEMORY
from snell_layers.rule import SnellRule, check_choice
from snell_layers.start import INITS, check_shares

from .register import peft_type

__all__ = ["FORMAT", "SnellConfig"]

FORMAT = 1  # of a saved adapter; a change that older versions would read wrongly raises it


@dataclass
class SnellConfig(PeftConfig):
    r"""Configuration of a SNELL adapter; `sparsity=0` is KLoRA.

    $$\Delta W = \mathrm{sparsify}_\tau(\kappa(inner, outer))$$

    Args:
        r: Numbers per row and per column, as many as LoRA of rank `r`; a multiple of `heads`.
        sparsity: Share of each update's entries set to zero, in [0, 1).
        target_modules: Names or suffixes of modules, a regular expression, `"all-linear"`, or
            `None` for the defaults of a known transformers model. Linears, `Conv1D`, 1x1 and patch
            `nn.Conv2d`, and `nn.MultiheadAttention`.
        exclude_modules: Names, suffixes or a regular expression of modules to leave alone.
        modules_to_save: Modules trained in full and saved with the adapter, such as the head.
        rank_pattern: Module name or regular expression to its own `r`.
        sparsity_pattern: Module name or regular expression to its own `sparsity`.
        kernel: `"piecewise_linear"`, `"linear"` (LoRA's product), `"sigmoid"`, `"rbf"` or `"mixed"`
            (SNELLA's); equations in `snell_layers.kernel`.
        sparsifier: `"released"`, `"paper"`, `"hard"`, or `"none"` with `sparsity=0`.
        heads: Chunks of `r` for the kernels of distances, an even number.
        init: `"released"` (random, not a zero update) or `"zero_update"` (with `sparsity=0`).
        seed: Seed of the initial factors; every module derives its own from it and its name.
        fused_modules: Endings of module names whose weight stacks query, key and value: three
            updates, each with its own threshold, as if the three were separate layers. An
            `nn.MultiheadAttention` always has three, and a fourth for its output.
        learn_coefficients: Whether the kernel's scalars are trained; `None` is as published: held
            for `"piecewise_linear"`, trained for `"sigmoid"`, `"rbf"` and `"mixed"`.
        dropout: Share of an update's input that is dropped in training, in [0, 1); the release has
            0.1. Costs 5 products a step instead of 3, and a masked copy of the input.
        drop_path: Share of samples that go without an update in training, in [0, 1); the release
            has 0.1. Still 3 products.
        dropout_pattern: Module name or regular expression to its own `dropout`; the release leaves
            the attention's output projection out, `{"proj": 0.0}`.
        memory: What adapted layers keep for backward. `"free"`: outputs of LayerNorm and of
            activations are made again from their inputs. `"low"`: the hidden layer of an MLP, too,
            for one product more; see `snell_layers.recompute`.

    Raises:
        ValueError: If a value is outside its range; patterns included.

    Examples:
        >>> from snell_layers.peft import SnellConfig
        >>> SnellConfig(r=8, sparsity=0.9, target_modules=["query", "value"]).peft_type.value
        'SNELL'
    """

    r: int = 8
    sparsity: float = 0.9
    target_modules: list[str] | set[str] | str | None = None
    exclude_modules: list[str] | set[str] | str | None = None
    modules_to_save: list[str] | None = None
    rank_pattern: dict[str, int] = field(default_factory=dict)
    sparsity_pattern: dict[str, float] = field(default_factory=dict)
    kernel: str = "piecewise_linear"
    sparsifier: str = "released"
    heads: int = 2
    init: str = "released"
    seed: int = 0
    fused_modules: list[str] | tuple[str, ...] = ("qkv", "attn.c_attn")
    learn_coefficients: bool | None = None
    dropout: float = 0.0
    drop_path: float = 0.0
    dropout_pattern: dict[str, float] = field(default_factory=dict)
    memory: str = "free"
    format_version: int = FORMAT

    def __new__(cls, *args: Any, format_version: int = FORMAT, **kwargs: Any) -> "SnellConfig":
        """Refuse a newer format before PEFT drops the fields that only newer versions know."""
        if format_version > FORMAT:
            raise ValueError(
                f"format_version is {format_version}, but this version of snell-layers reads up to "
                f"{FORMAT}: the adapter was saved by a newer one, so upgrade snell-layers"
            )
        return super().__new__(cls)

    def __post_init__(self) -> None:
        super().__post_init__()
        self.peft_type = peft_type()
        for name in ("target_modules", "exclude_modules"):
            value = getattr(self, name)
            if isinstance(value, list | tuple):
                setattr(self, name, set(value))
        self.fused_modules = list(self.fused_modules)
        check_choice("init", self.init, INITS)
        check_choice("memory", self.memory, MEMORY)
        check_shares(dropout=self.dropout, drop_path=self.drop_path)
        self._rule(self.r, self.sparsity)
        for name in [*self.rank_pattern, *self.sparsity_pattern, *self.dropout_pattern]:
            self._rule_of_pattern(name)

    def rule(self, module: str) -> SnellRule:
        """The rule of one module, with the patterns that match its name."""
        rank = get_pattern_key(list(self.rank_pattern), module)
        sparsity = get_pattern_key(list(self.sparsity_pattern), module)
        return self._rule(
            self.rank_pattern.get(rank, self.r), self.sparsity_pattern.get(sparsity, self.sparsity)
        )

    def dropout_of(self, module: str) -> float:
        """The dropout of one module's update."""
        pattern = get_pattern_key(list(self.dropout_pattern), module)
        return self.dropout_pattern.get(pattern, self.dropout)

    def pieces(self, module: str) -> int:
        """Row blocks of one module with an update of their own."""
        return 3 if module.endswith(tuple(self.fused_modules)) else 1

    def _rule_of_pattern(self, name: str) -> None:
        """Check the values of one pattern."""
        try:
            check_shares(dropout=self.dropout_pattern.get(name, self.dropout))
            self._rule(
                self.rank_pattern.get(name, self.r), self.sparsity_pattern.get(name, self.sparsity)
            )
        except ValueError as error:
            raise ValueError(f"in the pattern for {name!r}: {error}") from None

    def _rule(self, r: int, sparsity: float) -> SnellRule:
        """The rule that all modules share, with numbers of its own."""
        return SnellRule(
            r, sparsity, self.kernel, self.sparsifier, self.heads, self.learn_coefficients
        )
