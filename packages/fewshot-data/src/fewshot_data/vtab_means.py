"""The two averages of VTAB-1k, which papers print under the same name."""

from collections.abc import Mapping
from statistics import fmean

from fewshot_data.registry import list_datasets, load_spec

__all__ = ["vtab_means"]


def vtab_means(scores: Mapping[str, float]) -> dict[str, float]:
    r"""Average the accuracies of VTAB-1k in both ways that tables use.

    With groups $G$ of 7 natural, 4 specialized and 8 structured tasks,
    $$ \bar a_{groups} = \frac13 \sum_G \frac1{|G|} \sum_{t \in G} a_t, \qquad
       \bar a_{tasks} = \frac1{19} \sum_t a_t. $$
    NOAH, SPT and SNELL print the first as "Mean Acc.", SSF's tables the second.

    Args:
        scores: Accuracy by registry name, alias or task folder; all 19 tasks, one unit.

    Returns:
        The means of the groups ``natural``, ``specialized``, ``structured``, then
        ``mean of three group means`` and ``mean of 19 tasks``.

    Raises:
        ValueError: If a task is missing, unknown or given twice.

    Examples:
        >>> from fewshot_data import list_datasets
        >>> tasks = [spec for spec in list_datasets() if spec.source == "vtab"]
        >>> means = vtab_means({t.name: float(t.group == "vtab-natural") for t in tasks})
        >>> [round(means[key], 3) for key in ("mean of three group means", "mean of 19 tasks")]
        [0.333, 0.368]

    Reference:
        Table 1 of NOAH (Zhang et al., 2022) and of SSF (Lian et al., 2022).
    """
    groups: dict[str, dict[str, float]] = {}
    tasks = {spec.name: spec for spec in list_datasets() if spec.source == "vtab"}
    for given, score in scores.items():
        name = given if given in tasks else _task(given, tuple(tasks))
        group = groups.setdefault(tasks[name].group.removeprefix("vtab-"), {})
        if name in group:
            raise ValueError(f"scores holds '{name}' twice, once as '{given}'")
        group[name] = score
    lacking = sorted(tasks.keys() - {name for group in groups.values() for name in group})
    if lacking:
        raise ValueError(
            f"scores lacks {len(lacking)} of {len(tasks)} tasks: {', '.join(lacking)}; "
            "a mean over fewer tasks is not the published number"
        )
    means = {group: fmean(groups[group].values()) for group in sorted(groups)}
    return {
        **means,
        "mean of three group means": fmean(means.values()),
        "mean of 19 tasks": fmean(score for group in groups.values() for score in group.values()),
    }


def _task(given: str, tasks: tuple[str, ...]) -> str:
    """The registry name of a task given by its folder or an alias."""
    if f"vtab-{given}" in tasks:
        return f"vtab-{given}"
    name = load_spec(given).name
    if name not in tasks:
        raise ValueError(f"scores holds '{given}', which is dataset '{name}' and no VTAB-1k task")
    return name
