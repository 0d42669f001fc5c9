"""Fixtures that build small batches and backbones from the catalog."""

from __future__ import annotations

import os

os.environ.setdefault("HF_HUB_OFFLINE", "1")  # no test may depend on the network

from collections.abc import Callable

import pytest
import torch

from vision_backbones import Backbone, BackboneSpec, list_backbones, load_backbone
from vision_backbones.made import shrunk

Batch = dict[str, torch.Tensor]


@pytest.fixture
def classes() -> tuple[str, ...]:
    """Class names of different lengths."""
    return ("digit zero", "digit one", "latin small letter a with acute")


@pytest.fixture
def templates() -> tuple[str, ...]:
    """Two prompt templates."""
    return ("{}", "the {}")


@pytest.fixture
def load(classes: tuple[str, ...], templates: tuple[str, ...]) -> Callable[..., Backbone]:
    """Load a small backbone from a file."""

    def load(name: str, checkpoint: object, **options: object) -> Backbone:
        with shrunk():
            return load_backbone(
                name, class_names=classes, templates=templates, checkpoint=checkpoint, **options
            )

    return load


@pytest.fixture
def make_batch(classes: tuple[str, ...]) -> Callable[..., Batch]:
    """Random images, or random ids of different lengths with their mask."""

    def make_batch(spec: BackboneSpec, size: int = 4, seed: int = 0) -> Batch:
        generator = torch.Generator().manual_seed(seed)
        labels = torch.arange(size) % len(classes)
        if spec.modality == "image":
            shape = (size, len(spec.mean), spec.input_size, spec.input_size)
            return {"image": torch.randn(shape, generator=generator), "label": labels}
        ids = torch.randint(5, 1000, (size, 7), generator=generator)
        mask = (torch.arange(7) < torch.arange(3, 3 + size).clamp(max=7)[:, None]).long()
        return {"input_ids": ids * mask, "attention_mask": mask, "label": labels}

    return make_batch


@pytest.fixture
def load_random(classes: tuple[str, ...], templates: tuple[str, ...]) -> Callable[..., Backbone]:
    """A backbone with random weights and a head for the classes."""

    def load_random(name: str, seed: int = 0) -> Backbone:
        return load_backbone(
            name, class_names=classes, templates=templates, checkpoint="random", seed=seed
        )

    return load_random


@pytest.fixture
def wake_head() -> Callable[..., None]:
    """Give a head that starts at zero some weights, so that gradients pass through it."""

    def wake_head(backbone: Backbone, seed: int = 0) -> None:
        generator = torch.Generator().manual_seed(seed)
        with torch.no_grad():
            for parameter in backbone.head_parameters():
                parameter.copy_(torch.randn(parameter.shape, generator=generator))

    return wake_head


@pytest.fixture(params=[spec.name for spec in list_backbones() if spec.bundled])
def tiny_name(request: pytest.FixtureRequest) -> str:
    """The name of each tiny backbone in turn."""
    return request.param


@pytest.fixture
def tiny(tiny_name: str, load_random: Callable[..., Backbone]) -> Backbone:
    """Each tiny backbone in turn, with random weights."""
    return load_random(tiny_name)


@pytest.fixture
def batch(tiny: Backbone, make_batch: Callable[..., Batch]) -> Batch:
    """A batch that the tiny backbone takes."""
    return make_batch(tiny.spec)
