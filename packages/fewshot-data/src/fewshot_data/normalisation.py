"""Which mean and standard deviation pixels are normalised with, by name or by number."""

from collections.abc import Sequence
from difflib import get_close_matches

from fewshot_data.pipeline import per_channel

__all__ = ["NORMALISATIONS", "Statistics", "statistics"]

Statistics = tuple[tuple[float, ...], tuple[float, ...]]
"""Mean and standard deviation of each channel, for values in 0..1."""

NORMALISATIONS: dict[str, Statistics] = {
    "imagenet": ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
    "inception": ((0.5, 0.5, 0.5), (0.5, 0.5, 0.5)),
    "clip": ((0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)),
    "none": ((0.0, 0.0, 0.0), (1.0, 1.0, 1.0)),
}


def statistics(
    wanted: str | tuple[float | Sequence[float], float | Sequence[float]],
    channels: int,
    *,
    argument: str = "normalise",
) -> Statistics:
    """Look up a normalisation, or check its numbers.

    Args:
        wanted: A name of `NORMALISATIONS`, or mean and standard deviation, each one number or one
            for each channel.
        channels: Of the images.
        argument: What to call ``wanted`` in messages.

    Returns:
        Mean and standard deviation of each channel.

    Raises:
        ValueError: If the name is unknown (the closest is offered), or numbers do not fit.

    Examples:
        >>> statistics("inception", 3)
        ((0.5, 0.5, 0.5), (0.5, 0.5, 0.5))
    """
    if isinstance(wanted, str):
        if wanted not in NORMALISATIONS:
            close = get_close_matches(wanted, NORMALISATIONS, n=1)
            hint = f"did you mean '{close[0]}'? " if close else ""
            raise ValueError(
                f"unknown {argument} '{wanted}': {hint}known: {', '.join(NORMALISATIONS)}, or "
                "(mean, std)"
            )
        wanted = (0.0, 1.0) if wanted == "none" else NORMALISATIONS[wanted]
    if len(wanted) != 2:
        raise ValueError(f"{argument} has {len(wanted)} entries: give (mean, std)")
    mean = per_channel(f"mean of {argument}", wanted[0], channels)
    std = per_channel(f"std of {argument}", wanted[1], channels)
    if any(value <= 0 for value in std):
        raise ValueError(f"std of {argument} is {std}: every value must be above 0")
    return mean, std
