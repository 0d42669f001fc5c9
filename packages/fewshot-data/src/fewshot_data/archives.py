"""Archives of datasets, unpacked only if nothing in them leaves the folder they are unpacked to."""

import lzma
import shutil
import stat
import tarfile
import zipfile
import zlib
from pathlib import Path, PurePosixPath

__all__ = ["extract"]


def extract(path: str | Path, to: str | Path) -> Path:
    """Unpack a zip or tar archive; every member is checked before the first is written.

    A member with an absolute path or ``..``, a link that leads outside, and a device file are
    refused: such an archive overwrites files elsewhere on the machine.

    Args:
        path: A ``.zip``, ``.tar``, ``.tar.gz``, ``.tgz``, ``.tar.bz2`` or ``.tar.xz`` file; the
            content decides, not the name.
        to: The folder to unpack to; made if it is not there.

    Returns:
        The folder.

    Raises:
        FileNotFoundError: If there is no archive.
        ValueError: If it is none of these kinds, broken, larger than the free space, or unsafe;
            nothing is written then, except for an archive that breaks off in the middle.

    Examples:
        >>> import tempfile
        >>> folder = Path(tempfile.mkdtemp())
        >>> with zipfile.ZipFile(folder / "bad.zip", "w") as archive:
        ...     archive.writestr("../outside.txt", "")
        >>> extract(folder / "bad.zip", folder / "data")
        ... # doctest: +ELLIPSIS
        Traceback (most recent call last):
        ValueError: refused to unpack '...bad.zip': member '../outside.txt' leaves the folder; ...
    """
    path, to = Path(path), Path(to)
    if not path.is_file():
        raise FileNotFoundError(f"no archive '{path}'")
    try:
        if tarfile.is_tarfile(path):
            _extract_tar(path, to)
        elif zipfile.is_zipfile(path):
            _extract_zip(path, to)
        else:
            raise ValueError(f"'{path}' is neither a zip nor a tar archive, or breaks off early")
    except tarfile.FilterError as error:
        raise _refusal(path, getattr(error.tarinfo, "name", "?"), str(error)) from error
    except (tarfile.TarError, zipfile.BadZipFile, NotImplementedError) as error:
        raise ValueError(f"cannot unpack '{path}' ({error}): download it again") from error
    except (EOFError, OSError, RuntimeError, LookupError, zlib.error, lzma.LZMAError) as error:
        # Of zlib, bz2 and lzma on broken bytes, of encrypted members, and of a full disk.
        raise ValueError(f"cannot unpack '{path}' ({error or type(error).__name__})") from error
    return to


def _extract_tar(path: Path, to: Path) -> None:
    """Unpack a tar archive under the filter that Python has for data."""
    if not hasattr(tarfile, "data_filter"):
        raise ValueError("this Python unpacks tar archives without checks: use 3.11.4 or newer")
    with tarfile.open(path) as archive:  # reads names only; members are checked before writing
        members = archive.getmembers()
        for member in members:
            _check_name(path, member.name)
            if member.islnk() or member.issym():
                _check_link(path, member)
            if not (member.isreg() or member.isdir() or member.islnk() or member.issym()):
                raise _refusal(path, member.name, "is a device or a pipe")
        _check_space(path, to, sum(member.size for member in members))
        to.mkdir(parents=True, exist_ok=True)
        archive.extractall(to, members, filter="data")


def _extract_zip(path: Path, to: Path) -> None:
    """Unpack a zip archive; links are refused, because their targets are only known later."""
    with zipfile.ZipFile(path) as archive:
        members = archive.infolist()
        for member in members:
            # `orig_filename` is what the archive says; `filename` has been cleaned already.
            for name in (member.orig_filename.split("\0")[0], member.filename):
                _check_name(path, name)
            if stat.S_ISLNK(member.external_attr >> 16):
                raise _refusal(path, member.filename, "is a link")
        _check_space(path, to, sum(member.file_size for member in members))
        to.mkdir(parents=True, exist_ok=True)
        archive.extractall(to)


def _check_name(path: Path, name: str) -> None:
    """Refuse a member whose path leaves the folder on any system."""
    text = name.replace("\\", "/")
    drive = len(text) > 1 and text[1] == ":"
    if text.startswith("/") or drive or ".." in PurePosixPath(text).parts:
        raise _refusal(path, name, "leaves the folder")


def _check_link(path: Path, member: tarfile.TarInfo) -> None:
    """Refuse a link that leads outside, by its text; the filter looks again at the disk."""
    inside = [] if member.islnk() else list(PurePosixPath(member.name).parent.parts)
    target = member.linkname.replace("\\", "/")
    for part in PurePosixPath(target).parts:
        if part == "..":
            if not inside:
                raise _refusal(path, member.name, f"links to '{member.linkname}' outside")
            inside.pop()
        else:
            inside.append(part)
    if target.startswith("/"):
        raise _refusal(path, member.name, f"links to '{member.linkname}' outside")


def _check_space(path: Path, to: Path, size: int) -> None:
    """Refuse an archive that says it is larger than the disk has room for."""
    place = next(folder for folder in (to, *to.absolute().parents) if folder.exists())
    free = shutil.disk_usage(place).free
    if size > free:
        raise ValueError(f"'{path}' unpacks to {size} bytes, but '{place}' has {free} free")


def _refusal(path: Path, name: str, why: str) -> ValueError:
    """The error for an unsafe member."""
    return ValueError(
        f"refused to unpack '{path}': member '{name}' {why}; "
        "get the archive from the dataset's own home"
    )
