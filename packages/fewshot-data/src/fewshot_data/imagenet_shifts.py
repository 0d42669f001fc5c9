"""ImageNet's shifted test sets: V2 by number, Sketch, A and R by WordNet id."""

from pathlib import Path

from fewshot_data.fixed import size_complaints
from fewshot_data.imagenet import class_folders, name_classes, read_class_names
from fewshot_data.images import ImageFiles
from fewshot_data.layout import find_folder
from fewshot_data.raw import RawDataset
from fewshot_data.registry import DatasetSpec
from fewshot_data.schema import read_options

__all__ = ["open_source"]

OPTIONS = {"images": "", "numbered": False, "label_space": "subset"}
LABEL_SPACES = ("subset", "imagenet")


def open_source(spec: DatasetSpec, *, seed: int) -> RawDataset:
    """Open a test set that shifts ImageNet's distribution; there is nothing to train on.

    V2's folders are numbers, and the label is the number itself: sorted as text, 10 would come
    before 2. A and R have 200 classes, which CoOp numbers 0 to 199 and asks for with 200 prompts
    (``label_space = "subset"``); NOAH and SPT keep ImageNet's labels (``"imagenet"``, which needs
    ``classnames.txt`` with all 1000 lines).

    Args:
        spec: Options: ``images`` is the folder that holds the class folders; ``numbered`` whether
            these are labels; ``label_space`` as above.
        seed: Not needed.

    Returns:
        Test images.

    Raises:
        FileNotFoundError: If a folder is missing.
        ValueError: If folders are not what they should be.

    Examples:
        >>> import tempfile
        >>> from fewshot_data import load_spec
        >>> open_source(load_spec("imagenet_a").at(tempfile.mkdtemp()), seed=0)
        ... # doctest: +IGNORE_EXCEPTION_DETAIL
        Traceback (most recent call last):
        FileNotFoundError: no folder

    Reference:
        ``datasets/imagenet_a.py`` and its siblings of KaiyangZhou/CoOp.
    """
    options = read_options(spec.options, OPTIONS, owner="source 'imagenet-shift'")
    if options["label_space"] not in LABEL_SPACES:
        raise ValueError(
            f"option 'label_space' is '{options['label_space']}': give subset, imagenet"
        )
    folder = find_folder(spec, marks=[options["images"]])
    place = folder / options["images"]
    classes = class_folders(place, spec)
    # The four sets lie beside ImageNet, whose file names their classes too.
    files = [where / "classnames.txt" for where in (folder, place)]
    files += [folder.parent / name / "classnames.txt" for name in ("imagenet", "ILSVRC2012")]
    if options["numbered"]:
        labels, names = _numbered(spec, list(classes), files)
    else:
        labels, names = _by_id(spec, sorted(classes), files, options["label_space"])
    paths = [path for images in classes.values() for path in images]
    return RawDataset(
        ImageFiles(paths), [labels[path.parent.name] for path in paths], names,
        [], list(range(len(paths))),
        names=[f"{path.parent.name}/{path.name}" for path in paths],
        origin=f"the images in '{place}'",
        complaints=size_complaints(spec, {"test": len(paths)}),
    )  # fmt: skip


def _numbered(
    spec: DatasetSpec, folders: list[str], files: list[Path]
) -> tuple[dict[str, int], tuple[str, ...]]:
    """Labels that folders are named after; names by their position in classnames.txt."""
    wrong = [name for name in folders if not name.isdigit()]
    if wrong:
        raise ValueError(f"dataset '{spec.name}': folder '{wrong[0]}' is no label: remove it")
    labels = {name: int(name) for name in folders}
    for path in files:
        if path.is_file():
            names = tuple(read_class_names(path).values())
            if len(names) <= max(labels.values()):
                raise ValueError(
                    f"'{path}' has {len(names)} lines, but there is a folder "
                    f"'{max(labels.values())}': get CoOp's file, with 1000 lines"
                )
            return labels, names
    return labels, tuple(f"class {n}" for n in range(max(labels.values()) + 1))


def _by_id(
    spec: DatasetSpec, ids: list[str], files: list[Path], space: str
) -> tuple[dict[str, int], tuple[str, ...]]:
    """Labels among the classes of this set, or among all of ImageNet's."""
    if space == "subset":
        return {wnid: n for n, wnid in enumerate(ids)}, name_classes(ids, files, spec)
    path = next((path for path in files if path.is_file()), None)
    if path is None:
        raise FileNotFoundError(
            f"dataset '{spec.name}': label_space 'imagenet' needs classnames.txt with the 1000 "
            f"classes, looked for in {', '.join(str(one.parent) for one in files)}"
        )
    known = read_class_names(path)
    lacking = [wnid for wnid in ids if wnid not in known]
    if lacking:
        raise ValueError(f"'{path}' has no line for class folder '{lacking[0]}': get CoOp's file")
    numbers = {wnid: n for n, wnid in enumerate(known)}
    return {wnid: numbers[wnid] for wnid in ids}, tuple(known.values())
