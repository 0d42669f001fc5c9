"""Tiny copies of VTAB-1k's tasks: 8, 2, 10 and 5 images in the four folders."""

from pathlib import Path
from random import Random

from fewshot_data.made.pictures import write_odd_pictures, write_picture
from fewshot_data.registry import DatasetSpec

__all__ = ["LAYOUTS", "make"]

LAYOUTS = ("ssf", "crlf")


def make(spec: DatasetSpec, root: Path, *, layout: str, rng: Random) -> Path:
    r"""Write one task; ``crlf`` ends its lines as Windows does, with a blank one at the end.

    Args:
        spec: One of the 19 tasks.
        root: Folder of all data.
        layout: One of `LAYOUTS`.
        rng: Of the pictures.

    Returns:
        The task's folder.

    Examples:
        >>> import tempfile
        >>> from fewshot_data import load_spec
        >>> folder = make(
        ...     load_spec("vtab-svhn"), Path(tempfile.mkdtemp()), layout="ssf", rng=Random(0)
        ... )
        >>> (folder / "val200.txt").read_text()
        'images/val200/000000.jpg 0\nimages/val200/000001.jpg 1\n'
    """
    folder, end = root / spec.folders[0], "\r\n" if layout == "crlf" else "\n"
    labels = [number % min(spec.classes or 2, 4) for number in range(8)]
    lists = {"train800": labels, "val200": [0, 1], "train800val200": [*labels, 0, 1]}
    for name, wanted in {**lists, "test": [0, 1, 0, 1, 0]}.items():
        lines = []
        for number, label in enumerate(wanted):
            path = f"images/{name}/{number:06d}.jpg"
            write_picture(folder / path, label, rng)
            lines.append(f"{path} {label}{end}")
        text = "".join(lines) + (end if layout == "crlf" else "")
        (folder / f"{name}.txt").write_bytes(text.encode())
    odd = sorted((folder / "images" / "train800val200").iterdir())
    write_odd_pictures(odd, [*labels, 0, 1], rng)
    return folder
