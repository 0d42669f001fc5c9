"""tiny-clip: match a rendered character with its name."""

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from fewshot_bench.pretrain.augment import augment, normalise
from fewshot_bench.pretrain.corpus import corpus
from fewshot_bench.pretrain.recipe import Recipe
from vision_backbones.text import ClipText
from vision_backbones.tiny import CLIP_CONTEXT, tiny_clip, tiny_tokenizer

__all__ = ["RECIPE", "ClipTask"]

RECIPE = Recipe("tiny-clip", steps=4000, batch_size=128, muon_lr=0.01, adamw_lr=0.002)
RAMP = 0.7
HIGHEST_SCALE = 50.0


class ClipTask:
    r"""CLIP's symmetric contrastive loss over a batch of different characters.

    $$ L = -\tfrac12 \log p(\text{name} \mid \text{image})
           -\tfrac12 \log p(\text{image} \mid \text{name}) $$

    Args:
        seed: Of the first weights and of the batches.
    """

    def __init__(self, seed: int) -> None:
        self.corpus = corpus()
        self.tokens = ClipText(tiny_tokenizer(), CLIP_CONTEXT)(list(self.corpus.names))
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self.model = tiny_clip()
        self.generator = torch.Generator().manual_seed(seed + 1)

    def matrices(self) -> list[nn.Parameter]:
        """The 2-D weights of the blocks of both towers."""
        towers = ("visual.transformer.", "transformer.")
        named = self.model.named_parameters()
        return [p for name, p in named if name.startswith(towers) and p.ndim == 2]

    def heads(self) -> list[nn.Parameter]:
        """Nothing: CLIP keeps all it learns."""
        return []

    def loss(self, progress: float, batch_size: int) -> Tensor:
        """Draw different characters, each in any face, and give the loss."""
        source = self.corpus
        chosen = torch.randperm(len(source.names), generator=self.generator)[:batch_size]
        face = torch.rand(batch_size, generator=self.generator) * source.faces[chosen]
        images = source.drawings(source.first[chosen] + face.long())
        images = augment(images, min(1.0, progress / RAMP), self.generator)
        image = F.normalize(self.model.encode_image(normalise(images)), dim=-1)
        text = F.normalize(self.model.encode_text(self.tokens[chosen]), dim=-1)
        with torch.no_grad():
            self.model.logit_scale.clamp_(max=math.log(HIGHEST_SCALE))
        logits = self.model.logit_scale.exp() * image @ text.T
        pairs = torch.arange(batch_size)
        return (F.cross_entropy(logits, pairs) + F.cross_entropy(logits.T, pairs)) / 2
