"""tiny-vit: recognise a rendered character, and the words of its name."""

from collections import Counter

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from fewshot_bench.pretrain.augment import augment, normalise
from fewshot_bench.pretrain.corpus import Corpus, corpus
from fewshot_bench.pretrain.recipe import Recipe
from vision_backbones.tiny import WIDTH, tiny_vit

__all__ = ["RECIPE", "VitTask"]

RECIPE = Recipe("tiny-vit", steps=6000, batch_size=64, muon_lr=0.01, adamw_lr=0.002)
RAMP = 0.7  # share of the training over which distortion grows to its full strength
WORDS_WEIGHT = 0.5
FEWEST_NAMES = 3  # words of fewer names are not asked for


class VitTask:
    r"""Cross-entropy over characters plus half a multi-label loss over words.

    $$ L = -\log p(c) + \tfrac12 \sum_w \operatorname{BCE}(z_w, [w \in \text{name}(c)]) $$

    Args:
        seed: Of the first weights and of the batches.
    """

    def __init__(self, seed: int) -> None:
        self.corpus = corpus()
        self.words = _words(self.corpus)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self.model = tiny_vit()
            self.character_head = nn.Linear(WIDTH, len(self.corpus.names))
            self.word_head = nn.Linear(WIDTH, self.words.shape[1])
        self.generator = torch.Generator().manual_seed(seed + 1)

    def matrices(self) -> list[nn.Parameter]:
        """The 2-D weights of the blocks."""
        return [p for p in self.model.blocks.parameters() if p.ndim == 2]

    def heads(self) -> list[nn.Parameter]:
        """Both classifiers."""
        return [*self.character_head.parameters(), *self.word_head.parameters()]

    def loss(self, progress: float, batch_size: int) -> Tensor:
        """Draw any drawings and give the loss."""
        index = torch.randint(len(self.corpus.labels), (batch_size,), generator=self.generator)
        labels = self.corpus.labels[index]
        strength = min(1.0, progress / RAMP)
        images = augment(self.corpus.drawings(index), strength, self.generator)
        features = self.model(normalise(images))
        words = F.binary_cross_entropy_with_logits(
            self.word_head(features), self.words[labels], reduction="none"
        )
        characters = F.cross_entropy(self.character_head(features), labels)
        return characters + WORDS_WEIGHT * words.sum(1).mean()


def _words(source: Corpus) -> Tensor:
    """Which words each name has, 0 or 1, `(characters, words)`."""
    counts = Counter(word for name in source.names for word in set(name.split()))
    known = sorted(word for word, count in counts.items() if count >= FEWEST_NAMES)
    rows = [[float(word in name.split()) for word in known] for name in source.names]
    return torch.tensor(rows)
