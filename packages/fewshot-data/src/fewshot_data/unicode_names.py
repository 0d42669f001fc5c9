"""Text classification from Unicode character names: what kind of character, and of which script.

Three tasks, chosen by `options.task` of the data set: "category" (general category from the
name), "script" (which script a name belongs to, its script word replaced by `[MASK]`) and
"script-reversed" (the same, words in reverse order: a shift that leaves room to adapt). A fifth
of all names, chosen by a stable hash, belongs to these tasks and is never used in pretraining.
"""

import random
import re
from collections import Counter
from typing import TYPE_CHECKING

from fewshot_data.character_names import Character, characters, stable_fraction
from fewshot_data.raw import RawDataset

if TYPE_CHECKING:
    from fewshot_data.registry import DatasetSpec

__all__ = ["open_source", "pretraining_names"]

TASKS = ("category", "script", "script-reversed")
HELD_OUT_SHARE = 0.2
SCRIPTS = 30
POOL_PER_CLASS, TEST_SAMPLES = 24, 800
MASK = "[MASK]"
"""General categories with enough held-out names, in the words of the Unicode standard."""
CATEGORIES = {
    "Lu": "uppercase letter",
    "Ll": "lowercase letter",
    "Lm": "modifier letter",
    "Lo": "other letter",
    "Mn": "nonspacing mark",
    "Mc": "spacing mark",
    "Nd": "decimal number",
    "No": "other number",
    "Po": "other punctuation",
    "Sm": "math symbol",
    "So": "other symbol",
}
