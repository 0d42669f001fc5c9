"""tiny-bert: fill in the masked words of character names."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from fewshot_bench.pretrain.recipe import Recipe
from fewshot_data.unicode_names import pretraining_names
from vision_backbones.text import BertText, pad
from vision_backbones.tiny import BERT_CONTEXT, WIDTH, tiny_bert, tiny_tokenizer

__all__ = ["RECIPE", "BertTask"]

RECIPE = Recipe("tiny-bert", steps=4000, batch_size=128, muon_lr=0.01, adamw_lr=0.002)
MASK_SHARE, FIRST_WORD_SHARE = 0.2, 0.5


class BertTask:
    """Masked language modelling; in half of the names the first word is masked as a whole.

    Names of like length share a batch, so that little is padded.

    Args:
        seed: Of the first weights and of the batches.
    """

    def __init__(self, seed: int) -> None:
        encode = BertText(tiny_tokenizer(), BERT_CONTEXT)
        self.mask_id = encode.tokenizer.get_vocab()["[MASK]"]
        texts = {character.name for character in pretraining_names()}
        rows = sorted((encode(text)["input_ids"], _first_word(encode, text)) for text in texts)
        rows.sort(key=lambda row: len(row[0]))
        self.lengths = torch.tensor([len(ids) for ids, _ in rows])
        self.ids = pad([ids for ids, _ in rows], BERT_CONTEXT)
        self.first_word = torch.tensor([tokens for _, tokens in rows])
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self.model = tiny_bert()
            self.transform = nn.Sequential(nn.Linear(WIDTH, WIDTH), nn.GELU(), nn.LayerNorm(WIDTH))
            self.bias = nn.Parameter(torch.zeros(len(self.model.embeddings.word_embeddings.weight)))
        self.generator = torch.Generator().manual_seed(seed + 1)

    def matrices(self) -> list[nn.Parameter]:
        """The 2-D weights of the layers."""
        return [p for p in self.model.encoder.parameters() if p.ndim == 2]

    def heads(self) -> list[nn.Parameter]:
        """What turns hidden states into words; the word vectors are BERT's own."""
        return [*self.transform.parameters(), self.bias]

    def loss(self, progress: float, batch_size: int) -> Tensor:
        """Draw neighbours in length, mask them, and give the loss at the masks."""
        start = torch.randint(len(self.ids) - batch_size, (), generator=self.generator)
        rows = torch.arange(batch_size) + start
        longest = int(self.lengths[rows].max())
        ids, lengths = self.ids[rows, :longest], self.lengths[rows]
        chosen = self._mask(ids, lengths, self.first_word[rows])
        real = (torch.arange(longest) < lengths[:, None]).long()
        hidden = self.model(
            ids.masked_fill(chosen, self.mask_id), attention_mask=real
        ).last_hidden_state
        vectors = self.model.embeddings.word_embeddings.weight
        logits = F.linear(self.transform(hidden[chosen]), vectors, self.bias)
        return F.cross_entropy(logits, ids[chosen])

    def _mask(self, ids: Tensor, lengths: Tensor, first_word: Tensor) -> Tensor:
        """Which tokens to hide: never `[CLS]`, `[SEP]` or padding, at least one of each name."""
        place = torch.arange(ids.shape[1])
        inside = (place > 0) & (place < lengths[:, None] - 1)
        score = torch.rand(ids.shape, generator=self.generator).masked_fill(~inside, 2.0)
        lowest = score.min(dim=1, keepdim=True).values
        hidden = (score < MASK_SHARE) | (score == lowest)
        whole = torch.rand(len(ids), generator=self.generator) < FIRST_WORD_SHARE
        return (hidden | (whole[:, None] & (place <= first_word[:, None]))) & inside


def _first_word(encode: BertText, text: str) -> int:
    """Tokens that the first word takes."""
    return len(encode(text.split()[0])["input_ids"]) - 2
