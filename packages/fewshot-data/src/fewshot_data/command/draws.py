"""`sample`, `verify` and `split`: what is drawn, and from what."""

import argparse
from pathlib import Path

from fewshot_data.base_new import SUBSAMPLES
from fewshot_data.command.parts import Command, add_name, add_root, root_of, say
from fewshot_data.coop import OPTIONS, read_items
from fewshot_data.drawn_split import split_table, write_drawn
from fewshot_data.loaders import few_shot
from fewshot_data.protocols import PROTOCOLS
from fewshot_data.registry import load_spec
from fewshot_data.schema import read_options

__all__ = ["SAMPLE", "SPLIT", "VERIFY"]


def _sample_options(parser: argparse.ArgumentParser) -> None:
    """Options of `sample`."""
    add_name(parser, "a dataset, or the path of one's own data")
    add_root(parser)
    parser.add_argument("--shots", type=int, required=True, help="samples per class")
    parser.add_argument("--seed", type=int, default=1, help="of the draw (default: 1)")
    parser.add_argument("--protocol", default="nested", choices=PROTOCOLS, metavar="PROTOCOL",
                        help=f"one of {', '.join(PROTOCOLS)} (default: nested)")  # fmt: skip
    parser.add_argument("--subsample", default="all", choices=SUBSAMPLES,
                        help="all classes, or one half of them")  # fmt: skip
    parser.add_argument("--replace", action="store_true", help="fill small classes up by repeats")
    parser.add_argument("--out", type=Path, metavar="FILE", help="write the draw to this JSON file")


def _sample(options: argparse.Namespace) -> int:
    """Draw, and write or print what was drawn."""
    data = few_shot(
        options.name, options.shots, seed=options.seed, protocol=options.protocol,
        root=root_of(options), replace=options.replace, subsample=options.subsample,
    )  # fmt: skip
    table = split_table(data)
    if options.out is None:
        for name, label, class_name in table["train"]:
            say(f"{label}\t{class_name}\t{name}")
        return 0
    write_drawn(table, options.out)
    val = f", {len(table['val'])} to validate on" if table["val"] else ""
    say(f"{len(data.train)} samples of {len(data.class_names)} classes{val}: {options.out}")
    return 0


def _verify_options(parser: argparse.ArgumentParser) -> None:
    """Options of `verify`."""
    add_name(parser)
    add_root(parser)


def _verify(options: argparse.Namespace) -> int:
    """Make the published draws again."""
    from fewshot_data.verify import verify_split

    root = root_of(options)
    if root is None:
        raise ValueError("--root is missing: name the folder of all data")
    found = verify_split(load_spec(options.name), root)
    same = sum(one.same for one in found)
    say(f"{options.name}: {same} of {len(found)} published draws made again")
    for one in found:
        if not one.same:
            say(f"  {one.protocol}, seed {one.seed}, {one.split}: {one.found}, not {one.published}")
    return 0 if same == len(found) else 1


def _split_options(parser: argparse.ArgumentParser) -> None:
    """Options of `split`."""
    add_name(parser)
    add_root(parser)
    parser.add_argument("--seed", type=int, default=1, help="of the cut (default: 1)")
    place = "default: split_fewshot_data_NAME.json in the dataset's folder"
    parser.add_argument("--out", type=Path, metavar="FILE", help=place)


def _split(options: argparse.Namespace) -> int:
    """Write the split that is made where there is no published one."""
    spec, root = load_spec(options.name), root_of(options)
    if spec.source != "coop" or not spec.options.get("split"):
        raise ValueError(f"'{spec.name}' needs no split file: its own files fix its splits")
    if root is None:
        raise ValueError("--root is missing: name the folder of all data")
    own = read_options({**spec.options, "layout": "original"}, OPTIONS, owner="source 'coop'")
    folder, items, origin, _ = read_items(spec.at(root), own, seed=options.seed)
    rows = {name: [[i.path, i.label, i.name] for i in part] for name, part in items.items()}
    meta = {"origin": origin, "published": False, "seed": options.seed}
    out = write_drawn(
        {**rows, "meta": meta}, options.out or folder / f"split_fewshot_data_{spec.name}.json"
    )
    say(f"written, and NOT the published split: {out}")
    return 0


SAMPLE = Command("sample", "draw shots and write them as a file", _sample_options, _sample)
VERIFY = Command(
    "verify", "make the published draws again from your split file", _verify_options, _verify,
    "Tells whether it is the published one. Needs no images.",
)  # fmt: skip
SPLIT = Command(
    "split", "cut a split from the original annotations", _split_options, _split,
    "For datasets whose published split file is missing. Nothing else ever writes into the data.",
)  # fmt: skip
