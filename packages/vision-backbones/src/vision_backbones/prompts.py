"""CLIP's class prompts through the text tower: cut short, and kept while nothing moves."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import torch

from vision_backbones.catalog import BackboneSpec
from vision_backbones.text import ClipText
from vision_backbones.tiny import CLIP_CONTEXT, tiny_tokenizer

if TYPE_CHECKING:
    from open_clip.model import CLIP


def prompt_tokens(
    spec: BackboneSpec, class_names: tuple[str, ...], templates: tuple[str, ...]
) -> torch.Tensor:
    """Ids of every class in every template, cut to the longest prompt.

    Args:
        spec: The backbone, which has its own vocabulary.
        class_names: Names to put into the templates.
        templates: Sentences with `{}` where the name goes.

    Returns:
        Ids, class after class, `(classes · templates, tokens)`.
    """
    prompts = [template.replace("{}", name) for name in class_names for template in templates]
    with torch.device("cpu"):
        tokens = _encoder(spec)(prompts)
        longest = int(tokens.argmax(dim=-1).max()) + 1  # the end of text has the largest id
        return tokens[:, :longest].contiguous()


def encode_text(model: Any, tokens: torch.Tensor) -> torch.Tensor:
    """What `model.encode_text` returns, for prompts that need not fill the whole context.

    The text tower is causal and its last token is read, so positions after the longest prompt
    cannot change the result; leaving them out saves most of the work.

    Args:
        model: An open_clip model.
        tokens: Ids ending with the largest id, `(prompts, tokens)`.

    Returns:
        Text features, not normalised, `(prompts, width)`.
    """
    length = tokens.shape[1]
    x = model.token_embedding(tokens) + model.positional_embedding[:length]
    x = model.transformer(x, attn_mask=model.attn_mask[:length, :length])
    x = model.ln_final(x)  # (prompts, tokens, text width)
    rows = torch.arange(len(tokens), device=tokens.device)
    return x[rows, tokens.argmax(dim=-1)] @ model.text_projection


def text_parameters(model: CLIP) -> list[torch.nn.Parameter]:
    """Everything trainable that text features depend on, adapters included."""
    return [
        parameter
        for name, parameter in model.named_parameters()
        if not name.startswith("visual.") and name != "logit_scale"
    ]


class PromptCache:
    """The features of all prompts, computed again only when the text tower has changed.

    A change shows in the parameters' version counters. They miss edits through `.data` and
    adapters that are merged or switched off, so one prompt is always encoded anew: when it moved,
    so did the others.
    """

    def __init__(self) -> None:
        self._key: tuple | None = None
        self._probe: torch.Tensor | None = None
        self._features: torch.Tensor | None = None

    def features(
        self,
        encode: Callable[[torch.Tensor], torch.Tensor],
        tokens: torch.Tensor,
        parameters: list[torch.nn.Parameter],
    ) -> torch.Tensor:
        """`encode(tokens)`, from memory where it is safe.

        Args:
            encode: From ids to features.
            tokens: Ids of all prompts, `(prompts, tokens)`.
            parameters: What `encode` depends on.

        Returns:
            Features `(prompts, width)`.
        """
        needs_gradient = torch.is_grad_enabled() and any(p.requires_grad for p in parameters)
        if needs_gradient or torch.compiler.is_compiling():
            return encode(tokens)
        probe = encode(tokens[:1])
        if type(probe) is not torch.Tensor or probe.is_meta:
            return encode(tokens)  # simulated tensors have no values to compare
        key = _fingerprint(parameters, tokens)
        if self._features is None or key != self._key or not _same(probe, self._probe):
            self._key, self._probe, self._features = key, probe, encode(tokens)
        return self._features


def _fingerprint(parameters: list[torch.nn.Parameter], tokens: torch.Tensor) -> tuple:
    """Identity and version of every parameter; inference tensors may not enter a later graph."""
    versions = tuple((id(p), 0 if p.is_inference() else p._version) for p in parameters)
    return (torch.is_inference_mode_enabled(), id(tokens), *versions)


def _same(probe: torch.Tensor, last: torch.Tensor | None) -> bool:
    """Whether two probes are bitwise equal on one device."""
    if last is None or probe.device != last.device or probe.dtype != last.dtype:
        return False
    return torch.equal(probe, last)


def _encoder(spec: BackboneSpec) -> Callable[[list[str]], torch.Tensor]:
    """From prompts to padded ids, in the backbone's vocabulary."""
    if spec.bundled:
        return ClipText(tiny_tokenizer(), CLIP_CONTEXT)
    import open_clip

    architecture, _, _ = spec.source.partition("/")
    return open_clip.get_tokenizer(architecture)
