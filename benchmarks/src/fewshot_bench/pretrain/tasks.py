"""The three recipes by name."""

from fewshot_bench.pretrain.bert import RECIPE as BERT
from fewshot_bench.pretrain.bert import BertTask
from fewshot_bench.pretrain.clip import RECIPE as CLIP
from fewshot_bench.pretrain.clip import ClipTask
from fewshot_bench.pretrain.recipe import Recipe
from fewshot_bench.pretrain.vit import RECIPE as VIT
from fewshot_bench.pretrain.vit import VitTask

__all__ = ["TASKS"]

TASKS: dict[str, tuple[Recipe, type[VitTask] | type[ClipTask] | type[BertTask]]] = {
    "vit": (VIT, VitTask),
    "clip": (CLIP, ClipTask),
    "bert": (BERT, BertTask),
}
