"""Which variants are compared with which, and how they are called."""

from dataclasses import dataclass, replace

from fewshot_bench.config import RunConfig

__all__ = ["COMPARISONS", "REFERENCES", "Choice", "Comparison", "choice_of"]


@dataclass(frozen=True)
class Choice:
    """A variant: the method, and the options of SNELL that tell its runs apart."""

    method: str = "snell"
    sparsifier: str = "released"
    sparsity: float = 0.9
    kernel: str = "piecewise_linear"
    r: int = 8
    mask: str = "dynamic"
    budget: str = "uniform"


def choice_of(config: RunConfig) -> Choice:
    """Tell which variant a run is of.

    Args:
        config: Any run.

    Returns:
        Its variant; options that its method does not read are at their defaults.

    Examples:
        >>> choice_of(RunConfig(method="klora")) == KLORA
        True
    """
    options = config.snell
    if config.method not in ("klora", "snell"):
        return Choice(method=config.method)
    if config.method == "klora" or options.sparsity == 0:
        return replace(KLORA, kernel=options.kernel, r=options.r)
    return Choice(
        "snell", options.sparsifier, options.sparsity, options.kernel, options.r,
        options.mask, options.budget,
    )  # fmt: skip


SNELL = Choice()
KLORA = Choice(method="klora", sparsifier="none", sparsity=0.0)
REFERENCES = (Choice(method="linear_probe"), Choice(method="full"))


@dataclass(frozen=True)
class Comparison:
    """One table: variants, each against the one that it differs from in one choice.

    Args:
        title: What is varied.
        rows: Name, variant and the variant that it is compared with; `None` is a starting point.
    """

    title: str
    rows: tuple[tuple[str, Choice, Choice | None], ...]


SPARSITIES = (0.1, 0.5, 0.9, 0.99)


def _sparsifiers() -> Comparison:
    """Every sparsifier at every sparsity, against none."""
    rows: list[tuple[str, Choice, Choice | None]] = [("none (KLoRA), s = 0", KLORA, None)]
    for sparsifier in ("released", "paper", "hard"):
        for s in SPARSITIES:
            choice = replace(SNELL, sparsifier=sparsifier, sparsity=s)
            rows.append((f"{sparsifier}, s = {s}", choice, KLORA))
    return Comparison("Sparsifier over the sparsity s, against none", tuple(rows))


def _kernels() -> Comparison:
    """Every kernel with and without sparsity, against the usual one."""
    rows: list[tuple[str, Choice, Choice | None]] = []
    for name, start in (("SNELL, s = 0.9", SNELL), ("KLoRA", KLORA)):
        rows.append((f"{name}, piecewise linear", start, None))
        rows += [(f"{name}, {k}", replace(start, kernel=k), start) for k in ("linear", "mixed")]
    return Comparison("Kernel, against the piecewise linear one", tuple(rows))


def _ranks() -> Comparison:
    """Every rank with and without sparsity, against 8."""
    rows: list[tuple[str, Choice, Choice | None]] = []
    for name, start in (("SNELL, s = 0.9", SNELL), ("KLoRA", KLORA)):
        rows.append((f"{name}, r = 8", start, None))
        rows += [(f"{name}, r = {r}", replace(start, r=r), start) for r in (16, 32)]
    return Comparison("Rank, against r = 8", tuple(rows))


def _masks() -> Comparison:
    """A mask that is chosen once against the dynamic one, at every sparsity of both."""
    rows: list[tuple[str, Choice, Choice | None]] = []
    for s in (0.5, 0.9, 0.99):
        dynamic = replace(SNELL, sparsifier="hard", sparsity=s)
        rows.append((f"dynamic, s = {s}", dynamic, None))
        rows.append((f"fixed, s = {s}", replace(dynamic, mask="fixed"), dynamic))
    return Comparison("Fixed mask, against the dynamic one (both keep w itself)", tuple(rows))


def _budgets() -> Comparison:
    """Layers that compete for entries against a sparsity that all share."""
    rows: list[tuple[str, Choice, Choice | None]] = []
    for kernel in ("piecewise_linear", "mixed"):
        name, uniform = kernel.replace("_", " "), replace(SNELL, kernel=kernel)
        rows.append((f"{name}, uniform", uniform, None))
        rows.append((f"{name}, allocated", replace(uniform, budget="allocated"), uniform))
    return Comparison("SNELLA's allocator, against a uniform sparsity (s = 0.9)", tuple(rows))


COMPARISONS = (_sparsifiers(), _kernels(), _ranks(), _masks(), _budgets())
