"""What the tests of listed datasets share: copies, and how they are opened."""

from dataclasses import replace

from fewshot_data import load_spec, made
from fewshot_data.sources import open_source

FGVC = ("fgvc-cub", "fgvc-nabirds", "fgvc-oxfordflower", "fgvc-stanforddog", "fgvc-stanfordcar")


def make(name, root, layout=None):
    """Make a copy of a dataset."""
    return made.make(load_spec(name), root, layout=layout)


def opened(name, root, *, seed=0, strict=False, **options):
    """Open a dataset below a root, some options changed."""
    spec = load_spec(name)
    spec = replace(spec, options={**spec.options, **options}).at(root)
    return open_source(spec, seed=seed, strict=strict)


def names_of(raw, indices):
    """Give the names of some samples."""
    return [raw.names[i] for i in indices]


def labelled(raw, indices):
    """Give the names of some samples with their labels."""
    return [(raw.names[i], raw.labels[i]) for i in indices]


def outcome_of(name, root, indices):
    """Give what opening gives, or what our errors say."""
    try:
        return getattr(opened(name, root), indices)
    except (ValueError, FileNotFoundError) as error:
        return [str(error)]
