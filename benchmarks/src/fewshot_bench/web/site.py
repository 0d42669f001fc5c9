"""Write the site: its pages, its style and its scripts, all in one folder that can be moved.

`python -m fewshot_bench.web.site RESULTS OUT` writes it elsewhere than beside the results.
"""

import re
import sys
from collections.abc import Sequence
from importlib.resources import files
from pathlib import Path

from fewshot_bench.against import Comparison
from fewshot_bench.atomic import write_text
from fewshot_bench.collect import Collection, collect
from fewshot_bench.statistics import Block, summarise
from fewshot_bench.web.pages import Links, pages

__all__ = ["write_site"]

OWN = ("report.css", "report.js", "web/site.css", "web/site.js")
PAGE = re.compile(r"(backbone|dataset|method)-[a-z0-9_-]+\.html")


def write_site(
    out: str | Path,
    folder: Path,
    found: Collection,
    blocks: Sequence[Block],
    links: Links | None = None,
    paper: Sequence[Comparison] = (),
) -> Path:
    """Write the site into a folder.

    Args:
        out: The folder of the site; pages of an earlier report that are no more are removed.
        folder: Where the results are; only its name is shown.
        found: The results and the files that were left out.
        blocks: The results, summarised.
        links: What to link to outside the site; without it, what lies beside it.
        paper: Published numbers beside ours, for the overview.

    Returns:
        The overview, `index.html`.

    Raises:
        OSError: The folder cannot be written.
    """
    from plotly.offline import get_plotlyjs

    out = Path(out)
    made = pages(folder, found, blocks, links or _beside(out), paper)
    for name in OWN:
        content = files("fewshot_bench").joinpath("templates", name).read_text(encoding="utf-8")
        write_text(out / Path(name).name, content)
    write_text(out / "plotly.min.js", get_plotlyjs())
    for name, content in made.items():
        write_text(out / name, content)
    for path in out.glob("*.html"):
        if PAGE.fullmatch(path.name) and path.name not in made:
            path.unlink()
    return out / "index.html"


def _beside(out: Path) -> Links:
    """Link the documentation and asv's history where they lie beside the site."""
    near = {
        name: f"../{place}index.html" if (out.parent / place / "index.html").is_file() else None
        for name, place in (("docs", ""), ("history", "history/"))
    }
    return Links(**near)


if __name__ == "__main__":
    gathered = collect(sys.argv[1])
    print(write_site(sys.argv[2], Path(sys.argv[1]), gathered, summarise(gathered.results)))
