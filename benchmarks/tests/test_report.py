"""The report: every number from a file, nothing lost in silence, nothing from outside."""

import base64
import csv
import json
import logging
import re
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import pytest

from fewshot_bench.collect import collect
from fewshot_bench.report import print_tables, write_report
from fewshot_bench.results import TrainInfo

from .made_results import failed_result, made_result, store

SCRIPT = "<script>alert(1)</script>"


class Page(HTMLParser):
    """What the tests ask of a page: its tags with attributes, and the text of its table rows."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.rows: list[list[tuple[str | None, str]]] = []
        self.inside = False
        self.feed(html)

    def handle_starttag(self, tag, attributes):
        self.tags.append((tag, dict(attributes)))
        if tag == "tr":
            self.rows.append([])
        if tag in ("td", "th"):
            self.rows[-1].append((dict(attributes).get("data-value"), ""))
            self.inside = True

    def handle_endtag(self, tag):
        self.inside = self.inside and tag not in ("td", "th")

    def handle_data(self, data):
        if self.inside:
            value, text = self.rows[-1][-1]
            self.rows[-1][-1] = (value, (text + data).strip())

    def named(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.tags if name == tag]


def broken(folder: Path) -> None:
    runs = folder / "runs"
    whole = next(iter(sorted(runs.glob("*.json")))).read_text()
    (runs / "zz-truncated.json").write_text(whole[: len(whole) // 2])
    (runs / "zz-binary.json").write_bytes(b"\xff\xfe\x00\x01")
    (runs / "zz-other.json").write_text('{"schema_version": 7}')
    (runs / "zz-list.json").write_text("[1, 2]")
    (runs / "zz-folder.json").mkdir()


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Seeds, the control, one single run, failures, `<script>` and corrupt files."""
    folder = tmp_path_factory.mktemp("report")
    runs = [made_result(80 + k + s, shots=k, seed=s) for k in (1, 4) for s in range(3)]
    runs += [made_result(30 + s, seed=s, checkpoint="random") for s in range(3)]
    runs += [made_result(50, method="zero_shot", backbone="tiny-clip", peak=0)]
    runs += [made_result(61, backbone="tiny-clip", dataset=f"x/{SCRIPT}&$a$", lr=0.25)]
    runs += [failed_result(f"NaN {SCRIPT}", method="full", seed=s) for s in range(2)]
    store(folder, *runs)
    broken(folder)
    write_report(folder)
    return folder


@pytest.fixture(scope="module")
def html(folder: Path) -> str:
    return (folder / "report.html").read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def page(html: str) -> Page:
    return Page(html)


def records(folder: Path) -> list[dict]:
    """The result files as plain JSON, read without the harness."""
    paths = [p for p in (folder / "runs").glob("*.json") if not p.name.startswith("zz-")]
    return [json.loads(path.read_text()) for path in sorted(paths)]


def test_the_page_figures_and_csv_lie_beside_the_runs(folder: Path):
    written = {path.name for path in folder.iterdir()}
    assert written == {
        "runs", "report", "report.html", "results.csv",
        "accuracy_shots.png", "accuracy_memory.png", "step_time.png",
    }  # fmt: skip
    for path in folder.glob("*.png"):
        assert path.read_bytes().startswith(b"\x89PNG")


def test_a_second_report_has_the_same_bytes_and_logs_what_it_leaves_out(
    folder: Path, caplog: pytest.LogCaptureFixture
):
    before = {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()}
    with caplog.at_level(logging.INFO, logger="fewshot_bench.report"):
        assert write_report(folder) == folder / "report.html"
    after = {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()}
    assert after == before
    assert sum("zz-" in record.getMessage() for record in caplog.records) == 5


def test_every_number_of_every_run_is_in_the_csv(folder: Path):
    with (folder / "results.csv").open(newline="", encoding="utf-8") as file:
        lines = {line["name"]: line for line in csv.DictReader(file)}
    expected = records(folder)
    assert len(lines) == len(expected)
    for record in expected:
        line, train = lines[record["run_info"]["name"]], record["train_info"]
        for key in ("accuracy", "correct", "count", "peak_memory_bytes", "adapter_bytes"):
            assert line[key] == ("" if train[key] is None else repr(train[key])), key
        assert line["config.seed"] == str(record["run_info"]["config"]["seed"])
        assert line["config.so.T"] == str(record["run_info"]["config"]["so"]["T"])
        assert line["error"] == (record["run_info"]["error"] or "")
        assert line["last_loss"] == repr(train["loss"][-1])
        assert line["git_revision"] == record["meta_info"]["git_revision"]


def test_every_run_is_on_the_page_with_its_own_numbers(folder: Path, page: Page):
    rows = {row[0][0]: row for row in page.rows}
    for record in records(folder):
        values = [value for value, _ in rows[record["run_info"]["name"]]]
        train = record["train_info"]
        accuracy = "" if train["accuracy"] is None else repr(train["accuracy"])
        assert values[7] == accuracy
        assert values[-1] == record["run_info"]["status"]


def test_means_on_the_page_equal_those_of_the_files(folder: Path, page: Page):
    chosen = [
        record["train_info"]["accuracy"]
        for record in records(folder)
        if (config := record["run_info"]["config"])["shots"] == 4
        and (config["method"], config["checkpoint"], config["backbone"]) == ("so", None, "tiny-vit")
    ]
    row = next(row for row in page.rows if row[0][1] == "so" and len(row) == 8)
    assert float(row[2][0]) == pytest.approx(sum(chosen) / len(chosen), abs=1e-15)
    # 84, 85, 86 of 100: s = 1, so 4.302653 / sqrt(3) = 2.484
    assert row[2][1] == "85.0 ± 2.5 (3)"


def test_a_single_run_shows_no_interval(html: str):
    assert "61.0 (1)" in html


def test_the_control_stands_in_rows_of_its_own(page: Page):
    controls = [row for row in page.rows if "control: random weights" in row[0][1]]
    assert [row[2][1] for row in controls] == ["31.0 ± 2.5 (3)"]
    assert {"class": "control"} in page.named("tr")


def test_failed_runs_are_named_with_their_reason(folder: Path, html: str):
    failed = [r["run_info"]["name"] for r in records(folder) if r["run_info"]["status"] == "failed"]
    section = html[html.index('<section id="failed">') :]
    assert len(failed) == 2
    for name in failed:
        assert f"<code>{name}</code>: NaN &lt;script&gt;" in section


def test_unreadable_files_are_named_on_the_page(folder: Path, html: str):
    for path in (folder / "runs").glob("zz-*.json"):
        assert f"<code>{path.name}</code>" in html
    assert "<b>5</b> files left out" in html


def test_markup_in_names_is_text(html: str, page: Page):
    assert SCRIPT not in html
    assert len(page.named("script")) == 1
    assert "&lt;script&gt;" in html


def test_the_page_needs_nothing_from_elsewhere(page: Page):
    for tag, attributes in page.tags:
        for name in ("src", "srcset", "href", "action", "data"):
            address = attributes.get(name)
            assert address is None or address.startswith(("data:", "#")), (tag, address)
    (policy,) = [m["content"] for m in page.named("meta") if "http-equiv" in m]
    assert policy.startswith("default-src 'none'")


def test_the_download_is_the_csv(folder: Path, page: Page):
    (link,) = [a for a in page.named("a") if a.get("download")]
    content = base64.b64decode(link["href"].partition(",")[2]).decode()
    assert content == (folder / "results.csv").read_text(encoding="utf-8")


def test_every_panel_comes_in_light_and_dark_and_has_a_text(page: Page):
    pictures, sources = page.named("img"), page.named("source")
    assert len(pictures) == len(sources) == 3 * 3  # three figures, three blocks
    assert all(picture["alt"] for picture in pictures)
    assert {source["media"] for source in sources} == {"(prefers-color-scheme: dark)"}


def test_tables_can_be_sorted_by_mouse_and_keyboard(html: str, page: Page):
    tables = page.named("table")
    assert all("sortable" in (table["class"] or "").split() for table in tables)
    heads = [a for a in page.named("th") if a.get("scope") == "col"]
    assert heads
    assert {head["aria-sort"] for head in heads} == {"none", "ascending", "descending"}
    assert len(page.named("button")) == len(heads)
    assert all(button["type"] == "button" for button in page.named("button"))
    # Each table says by which one column it is sorted already.
    assert sum(head["aria-sort"] != "none" for head in heads) == len(tables)
    assert re.search(r"addEventListener\(\"click\"", html)
    assert 'setAttribute("aria-sort", direction)' in html


def test_the_page_says_where_its_numbers_come_from(html: str):
    for fact in ("0123456789ab", "Some CPU", "torch 2.15.0", "2026-11-20", "Python 3.11.7"):
        assert fact in html
    assert "seeds 0, 1, 2" in html


def test_dirty_code_and_mixed_machines_are_pointed_out(tmp_path: Path):
    runs = [made_result(seed=0), made_result(seed=1, dirty=True, device_name="Other CPU")]
    store(tmp_path, *runs)
    text = write_report(tmp_path).read_text(encoding="utf-8")
    assert "1 of 2 runs were made with uncommitted changes" in text
    assert "2 devices" in text


def test_the_terminal_shows_the_same_and_fits(folder: Path, capsys: pytest.CaptureFixture[str]):
    print_tables(folder)
    shown = capsys.readouterr().out
    assert "85.0 ± 2.5 (3)" in shown
    assert re.search(r"so \(random\) .* 31\.0 ± 2\.5 \(3\)", shown)
    assert "61.0 (1)" in shown
    tables = [line for line in shown.splitlines() if not line.startswith(("failed:", "left out:"))]
    assert max(map(len, tables)) <= 100
    assert shown.count("failed: full--tiny-vit--digits--4shot--seed") == 2
    assert shown.count("left out: ") == 5


def test_a_grid_of_everything_fits_in_100_columns(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    methods = ("linear_probe", "full", "so", "snell")
    runs = [
        made_result(90 + s * (k > 1), method=m, shots=k, seed=s, checkpoint=weights)
        for m in methods
        for k in (1, 4, 16)
        for s in range(3)
        for weights in (None, "random")
    ]
    store(tmp_path, *runs)
    print_tables(tmp_path)
    lines = capsys.readouterr().out.splitlines()
    assert max(map(len, lines)) <= 100
    # No cell had to be broken: a line per row.
    assert sum("± " in line and "(3)" in line for line in lines) == 2 * len(methods)


def test_brackets_in_names_stay_as_they_are(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    store(tmp_path, made_result(dataset="own/[bold]data"))
    print_tables(tmp_path)
    assert "[bold]data" in capsys.readouterr().out


def test_a_folder_where_everything_failed_has_a_report(tmp_path: Path):
    store(tmp_path, failed_result(), failed_result(seed=1))
    text = write_report(tmp_path).read_text(encoding="utf-8")
    assert "<b>0</b> runs completed" in text
    assert "2 failed" in text


def test_a_folder_of_corrupt_files_only_has_a_report(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    (tmp_path / "runs").mkdir()
    (tmp_path / "runs" / "half.json").write_text('{"schema_ver')
    assert "No result could be read" in write_report(tmp_path).read_text(encoding="utf-8")
    print_tables(tmp_path)
    assert "half.json" in capsys.readouterr().out


@pytest.mark.parametrize("act", [write_report, print_tables])
def test_no_folder_and_no_results_say_what_to_do(tmp_path: Path, act):
    with pytest.raises(FileNotFoundError, match=r"no folder .*fewshot sweep"):
        act(tmp_path / "nowhere")
    with pytest.raises(FileNotFoundError, match=r"no result file in .*runs"):
        act(tmp_path)


def test_a_full_disk_leaves_the_old_report(tmp_path: Path, full_disk):
    store(tmp_path, made_result())
    before = write_report(tmp_path).read_bytes()
    store(tmp_path, made_result(seed=1))
    with full_disk(4096), pytest.raises(OSError, match=r"cannot write .*accuracy_shots\.png"):
        write_report(tmp_path)
    assert (tmp_path / "report.html").read_bytes() == before
    assert not list(tmp_path.glob(".*.tmp"))


def test_a_copy_of_a_run_counts_once(tmp_path: Path):
    (path,) = store(tmp_path, made_result())
    (tmp_path / "runs" / "copy.json").write_bytes(path.read_bytes())
    found = collect(tmp_path)
    assert len(found.results) == 1
    (left_out,) = found.unreadable
    assert left_out.path.name in ("copy.json", path.name)
    assert "the run in" in left_out.reason


def test_what_was_not_measured_is_a_dash_not_a_zero(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    run = made_result(50)
    store(tmp_path, replace(run, train_info=TrainInfo(accuracy=0.5, correct=50, count=100)))
    text = write_report(tmp_path).read_text(encoding="utf-8")
    row = next(row for row in Page(text).rows if row[0][1] == "so")
    assert [shown for _, shown in row] == ["so", "50.0 (1)", "–", "–", "–", "–", "–"]
    assert [value for value, _ in row[2:]] == [""] * 5
    print_tables(tmp_path)
    assert re.search(r"so +50\.0 \(1\) +– +– +– +–", capsys.readouterr().out)
