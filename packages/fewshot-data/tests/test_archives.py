"""Archives: what is unpacked, and everything that is refused before a byte is written."""

import io
import stat
import tarfile
import zipfile

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fewshot_data.archives import extract

from .mutations import mutated

FILE, LINK, HARD, PIPE = tarfile.REGTYPE, tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.FIFOTYPE


def tar(path, *members, mode="w:gz"):
    with tarfile.open(path, mode) as archive:
        for name, kind, target in members:
            info = tarfile.TarInfo(name)
            info.type, info.linkname = kind, target
            content = b"text" if kind == FILE else b""
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    return path


def zipped(path, *names, link=None):
    with zipfile.ZipFile(path, "w") as archive:
        for name in names:
            info = zipfile.ZipInfo(name)
            if name == link:
                info.external_attr = (stat.S_IFLNK | 0o777) << 16
            archive.writestr(info, "text")
    return path


@pytest.mark.parametrize("mode", ["w", "w:gz", "w:bz2", "w:xz"])
def test_tar_archives_of_every_kind_are_unpacked(tmp_path, mode):
    members = [("a/b.txt", FILE, ""), ("a/link", LINK, "b.txt"), ("a/hard", HARD, "a/b.txt")]
    path = tar(tmp_path / "data.anything", *members, mode=mode)
    folder = extract(path, tmp_path / "new" / "data")
    assert {p.name: p.read_text() for p in (folder / "a").iterdir()} == dict.fromkeys(
        ("b.txt", "link", "hard"), "text"
    )


def test_zip_archives_are_unpacked_and_names_kept(tmp_path):
    folder = extract(zipped(tmp_path / "data.zip", "vögel/eule.txt"), tmp_path / "data")
    assert (folder / "vögel" / "eule.txt").read_text() == "text"


UNSAFE = {
    "parent": ("../evil.txt", FILE, ""),
    "inner parent": ("a/../../evil.txt", FILE, ""),
    "absolute": ("/evil.txt", FILE, ""),
    "backslashes": ("..\\evil.txt", FILE, ""),
    "drive": ("C:\\evil.txt", FILE, ""),
    "link to a parent": ("a/link", LINK, "../../evil.txt"),
    "absolute link": ("link", LINK, "/etc/passwd"),
    "hard link": ("link", HARD, "../evil.txt"),
    "pipe": ("pipe", PIPE, ""),
}


@pytest.mark.parametrize("case", UNSAFE)
def test_unsafe_members_of_tar_archives_are_refused_before_anything_is_written(tmp_path, case):
    path = tar(tmp_path / "bad.tgz", ("good.txt", FILE, ""), UNSAFE[case])
    with pytest.raises(ValueError, match=r"refused to unpack .*: member '.*own home"):
        extract(path, tmp_path / "out")
    assert [entry.name for entry in tmp_path.iterdir()] == ["bad.tgz"]


@pytest.mark.parametrize(
    "name", ["../evil.txt", "a/../../evil.txt", "/evil.txt", "..\\evil.txt", "C:/evil.txt"]
)
def test_unsafe_members_of_zip_archives_are_refused_before_anything_is_written(tmp_path, name):
    path = zipped(tmp_path / "bad.zip", "good.txt", name)
    with pytest.raises(ValueError, match=r"refused to unpack .*leaves the folder"):
        extract(path, tmp_path / "out")
    assert [entry.name for entry in tmp_path.iterdir()] == ["bad.zip"]


def test_links_in_zip_archives_are_refused(tmp_path):
    path = zipped(tmp_path / "bad.zip", "good.txt", "link", link="link")
    with pytest.raises(ValueError, match="member 'link' is a link"):
        extract(path, tmp_path / "out")


def test_a_link_that_leads_out_by_way_of_another_writes_nothing_outside(tmp_path):
    members = [("a", LINK, "."), ("a/b", LINK, ".."), ("a/b/evil.txt", FILE, "")]
    with pytest.raises(ValueError, match="refused to unpack"):
        extract(tar(tmp_path / "bad.tgz", *members), tmp_path / "out")
    assert not list(tmp_path.rglob("evil.txt"))


def test_an_archive_larger_than_the_disk_is_refused(tmp_path):
    path = tmp_path / "bomb.tar"
    info = tarfile.TarInfo("big.bin")
    info.size = 1 << 60
    path.write_bytes(info.tobuf() + b"\0" * 1024)
    with pytest.raises(ValueError, match=r"bomb\.tar' (unpacks to|\()|cannot unpack"):
        extract(path, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_what_is_no_archive_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"no archive '.*data\.zip'"):
        extract(tmp_path / "data.zip", tmp_path)
    (tmp_path / "data.zip").write_text("<html>404 Not Found</html>")
    with pytest.raises(ValueError, match="neither a zip nor a tar archive"):
        extract(tmp_path / "data.zip", tmp_path / "out")


@settings(max_examples=80, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.data())
def test_mutated_archives_never_raise_anything_but_our_errors(tmp_path, data):
    (tmp_path / "in").mkdir(exist_ok=True)
    kind = data.draw(st.sampled_from(["zip", "w", "w:gz", "w:bz2", "w:xz"]))
    path = tmp_path / "in" / "data"
    make = zipped if kind == "zip" else tar
    members = ["a/b.txt", "c.txt"] if kind == "zip" else [("a/b.txt", FILE, ""), ("c", LINK, "a")]
    make(path, *members, **({} if kind == "zip" else {"mode": kind}))
    content = mutated(data, path.read_bytes(), times=4, cut=30, grown=30)
    path.write_bytes(content)
    try:
        outcome = str(extract(path, tmp_path / "out" / "data"))
    except ValueError as error:
        outcome = str(error)
    assert outcome
    assert {entry.name for entry in tmp_path.iterdir()} <= {"in", "out"}
    assert {entry.name for entry in (tmp_path / "in").iterdir()} == {"data"}
