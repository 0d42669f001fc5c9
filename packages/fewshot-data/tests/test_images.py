"""Image files of every kind become RGB; broken ones are named."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from fewshot_data.images import ImageFiles, find_images, read_image, visible

RED = np.zeros((10, 12, 3), dtype=np.uint8) + np.array([200, 30, 40], dtype=np.uint8)


def save(path: Path, image: Image.Image, **options) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    image.save(path, **options)
    return path


@pytest.mark.parametrize(
    ("mode", "name", "format_"),
    [
        ("RGB", "photo.JPG", "JPEG"),
        ("L", "grey.jpeg", "JPEG"),
        ("CMYK", "print.jpg", "JPEG"),
        ("RGBA", "really_a_png.jpg", "PNG"),
        ("LA", "grey_alpha.png", "PNG"),
        ("1", "bits.PNG", "PNG"),
        ("P", "palette.gif", "GIF"),
        ("P", "really_a_gif.jpg", "GIF"),
        ("P", "palette.png", "PNG"),
        ("RGB", "map.bmp", "BMP"),
        ("RGB", "web.webp", "WEBP"),
        ("RGB", "scan.TIFF", "TIFF"),
        ("L", "plain.pgm", "PPM"),
    ],
)
def test_every_kind_becomes_rgb(tmp_path, mode, name, format_):
    image = Image.fromarray(RED).convert(mode)
    path = save(tmp_path / name, image, format=format_)
    assert find_images(tmp_path) == [path]
    read = read_image(path)
    assert (read.mode, read.size) == ("RGB", (12, 10))
    wanted = np.asarray(image.convert("RGB"), dtype=int)
    assert np.abs(np.asarray(read, dtype=int) - wanted).max() <= 12  # lossy formats


def test_a_palette_with_transparency_keeps_its_colours_and_does_not_warn(tmp_path):
    image = Image.fromarray(RED).quantize(4)
    path = save(tmp_path / "p.png", image, transparency=bytes([0, 10, 20]))
    assert np.array_equal(np.asarray(read_image(path)), np.asarray(image.convert("RGB")))


def test_sixteen_bit_grey_is_not_washed_out(tmp_path):
    values = np.array([[0, 256, 32768, 65535]], dtype=np.uint16)
    path = save(tmp_path / "deep.png", Image.fromarray(values))
    assert np.asarray(read_image(path))[0, :, 0].tolist() == [0, 1, 128, 255]


@pytest.mark.parametrize("format_", ["JPEG", "PNG", "BMP", "WEBP", "TIFF"])
@pytest.mark.parametrize("share", [0.0, 0.02, 0.5, 0.9])
def test_a_truncated_image_is_named(tmp_path, format_, share):
    path = tmp_path / "broken.jpg"
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    whole = save(path, Image.fromarray(noise), format=format_).read_bytes()
    path.write_bytes(whole[: int(share * len(whole))])
    with pytest.raises(ValueError, match=r"cannot read image '.*broken\.jpg'.*restore or remove"):
        read_image(path)


def test_text_with_an_image_suffix_is_named(tmp_path):
    (tmp_path / "page.jpg").write_text("<html>not found</html>")
    with pytest.raises(ValueError, match=r"page\.jpg' \(not an image that Pillow knows\)"):
        ImageFiles([tmp_path / "page.jpg"])[0]


def test_a_missing_image_is_named(tmp_path):
    with pytest.raises(ValueError, match=r"gone\.jpg' \(No such file"):
        read_image(tmp_path / "gone.jpg")


def test_exif_rotation_is_not_applied(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6
    path = save(tmp_path / "turned.jpg", Image.new("RGB", (20, 10)), exif=exif)
    assert read_image(path).size == (20, 10)


def test_hidden_and_stray_files_are_ignored_and_order_is_ascii(tmp_path):
    kept = ["B.png", "a.png", "a10.png", "a2.png", "deep/c.png", "ü.png"]
    dropped = [".DS_Store", "._a.png", ".hidden/x.png", "Thumbs.db", "desktop.ini", "README.txt"]
    for name in [*kept, *dropped, "__MACOSX/y.png", "notes.md"]:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    assert [path.relative_to(tmp_path).as_posix() for path in find_images(tmp_path)] == kept
    assert tmp_path / "notes.md" in visible(tmp_path)


def test_links_are_followed_once(tmp_path):
    save(tmp_path / "elsewhere" / "cat" / "1.png", Image.new("RGB", (4, 4)))
    data = tmp_path / "data"
    data.mkdir()
    (data / "cat").symlink_to(tmp_path / "elsewhere" / "cat", target_is_directory=True)
    (tmp_path / "elsewhere" / "cat" / "loop").symlink_to(data, target_is_directory=True)
    assert find_images(data / "cat") == [data / "cat" / "1.png"]


@pytest.mark.parametrize("format_", ["JPEG", "PNG", "GIF", "BMP", "WEBP", "TIFF", "PPM"])
@settings(max_examples=40)
@given(data=st.data())
def test_damaged_files_give_an_image_or_our_error(tmp_path_factory, format_, data):
    path = tmp_path_factory.mktemp("damaged") / "x.jpg"
    noise = np.random.default_rng(0).integers(0, 256, (16, 16, 3), dtype=np.uint8)
    Image.fromarray(noise).save(path, format=format_)
    content = bytearray(path.read_bytes())
    places = st.lists(st.tuples(st.integers(0, len(content) - 1), st.integers(0, 255)), max_size=6)
    for place, value in data.draw(places):
        content[place] = value
    path.write_bytes(content[: data.draw(st.integers(0, len(content)))])
    for truncated in (False, True):
        try:
            outcome = read_image(path, truncated=truncated).mode
        except ValueError as error:
            outcome = str(error)
        assert outcome == "RGB" or outcome.startswith(f"cannot read image '{path}'")


@given(st.binary(max_size=200))
def test_random_bytes_give_our_error(tmp_path_factory, content):
    path = tmp_path_factory.mktemp("random") / "x.jpg"
    path.write_bytes(content)
    with pytest.raises(ValueError, match="cannot read image"):
        read_image(path)
