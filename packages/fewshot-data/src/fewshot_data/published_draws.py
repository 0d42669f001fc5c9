"""Hashes of the 16-shot draws on the published split files: is a split file the published one?

A hash is the first 16 hexadecimal digits of SHA-256 over the lines ``path<TAB>label`` in the order
drawn; training samples, then validation samples (four per class), for seeds 1, 2 and 3.
"""

import hashlib
from collections.abc import Iterable

__all__ = ["DRAWS", "SHOTS", "draw_hash"]

SHOTS = 16

Pair = tuple[str, str]
DRAWS: dict[str, dict[str, tuple[Pair, ...]]] = {
    "caltech101": {
        "coop": (
            ("f76611cad1289f2a", "0b87d6a706dfc584"),
            ("b45e8146b36240ae", "0907ca54213e660d"),
            ("d980c051a7a9af11", "3f12d9c318bbbf7f"),
        ),
        "so": (
            ("b13005c1be478155", "b1d384d8c0249a1d"),
            ("ea7df43b7a74c462", "bccb53c91a87cc42"),
            ("7388dfdd12a50da3", "7b7d895532f87782"),
        ),
    },
    "dtd": {
        "coop": (
            ("7237f748d7dfac55", "fbf09a58cab953b5"),
            ("adc7a4d30cd258e0", "3fadd9d6db812a17"),
            ("3d6925815a5e1449", "562076e41565bfb2"),
        ),
        "so": (
            ("132ed53a3a381b12", "58932c3d5faea36b"),
            ("be207014b69d9bf2", "4605bb04cdbff78f"),
            ("c51b7d2cc88a06df", "f8a8c5f2bab27738"),
        ),
    },
    "eurosat": {
        "coop": (
            ("fe093ab4564bb426", "804a880020875ee4"),
            ("72dabbe6a5225cb7", "c6698a87a1c5253f"),
            ("25a036fbc672f247", "49432be23611fc54"),
        ),
        "so": (
            ("3a6526c174dd7a90", "0963da44249c9dc1"),
            ("67750ce2b98f10e5", "9bb7b2e963121706"),
            ("624f59e64570fd8d", "fdacf7c2a09146cc"),
        ),
    },
    "fgvc": {
        "coop": (("22eb3451079cd665", ""),),
    },
    "food101": {
        "coop": (("1161cf96a01029ae", ""),),
    },
    "oxford_flowers": {
        "coop": (
            ("8e138912292f33c3", "d034b2f9142f4c72"),
            ("cc7563910b4164ff", "6f7d0e3c5290aada"),
            ("ea66b0c4b4ef1166", "57352160a40e7619"),
        ),
        "so": (
            ("7a242147dd54a6e0", "af1eace5fda7a3ce"),
            ("e7d4c278698363dd", "4ac1e20395d5b8d0"),
            ("88a892a4826773d1", "41f0da9a4e0e6f54"),
        ),
    },
    "oxford_pets": {
        "coop": (
            ("05c79dbb7753aab1", "e9cb00508b45b3e6"),
            ("562a1787bc7d86b8", "9f67a4490c4faebf"),
            ("b294ae5ad285a112", "694b077a41d399f2"),
        ),
        "so": (
            ("b626ec5bb8980f56", "11fa12169f092944"),
            ("9ea73f6947168598", "a21d3ac06f7a1015"),
            ("3ed65c9eb9cc1078", "ed166acc5bdf5b8a"),
        ),
    },
    "stanford_cars": {
        "coop": (
            ("6f4197f023396f76", "9813b593a9874231"),
            ("7a6e90d9af3d8b90", "9d405d43f73cf083"),
            ("cd9e6ef73395bd8a", "ca37e519ae47317c"),
        ),
        "so": (
            ("9d46ffb6f89ff1e2", "c69efa9c6789b70b"),
            ("bfb72d2e3ef88f8a", "9a76455b8aed6695"),
            ("976c4498cb5bdd30", "8de9dbb6ae26268e"),
        ),
    },
    "sun397": {
        "coop": (("45e14a78bf4ee0fa", ""),),
    },
    "ucf101": {
        "coop": (
            ("bed1bf2647008d27", "f5e3688a32e0f71a"),
            ("1946d5b040f34ae6", "7e06eec1bc8d23e4"),
            ("19894c754173d76b", "7de54ac1fbdd12a1"),
        ),
        "so": (
            ("ddf05be884b9a913", "3f86dcfdf5a7bda3"),
            ("e9ab572bf2df8ca7", "0f231064af00c169"),
            ("266fd73441ffd958", "3ebebbbace957f2e"),
        ),
    },
}
"""Dataset to protocol to what was drawn; an empty hash was not computed. The draws of CoOp equal
those that ``linzhiqiu/cross_modal_adaptation`` stores."""


def draw_hash(samples: Iterable[tuple[str, int]]) -> str:
    """Sum a draw up.

    Args:
        samples: Path below the image folder and label of each sample, in the order drawn.

    Returns:
        16 hexadecimal digits.

    Examples:
        >>> draw_hash([("banded/banded_0117.jpg", 0)]) != draw_hash([])
        True
    """
    lines = "\n".join(f"{name}\t{label}" for name, label in samples)
    return hashlib.sha256(lines.encode()).hexdigest()[:16]
