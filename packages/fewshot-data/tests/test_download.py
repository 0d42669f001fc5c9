"""Downloads: the right class of torchvision is called, and advice where there is none."""

import pytest
import torchvision

from fewshot_data import list_datasets, load_spec
from fewshot_data.download import can_download, download

ABLE = [spec for spec in list_datasets() if can_download(spec)]
UNABLE = [spec for spec in list_datasets() if not can_download(spec)]


@pytest.mark.parametrize("spec", ABLE, ids=lambda spec: spec.name)
def test_every_named_class_exists_and_can_download(spec):
    import inspect

    maker = getattr(torchvision.datasets, spec.download)
    assert "download" in inspect.signature(maker.__init__).parameters


@pytest.mark.parametrize("spec", UNABLE, ids=lambda spec: spec.name)
def test_where_there_is_no_download_the_error_names_living_homes(spec, tmp_path):
    with pytest.raises(ValueError, match=f"no download for '{spec.name}': ") as caught:
        download(spec, tmp_path / "data")
    text = str(caught.value)
    living = [home for home in spec.homes if "dead" not in home and "404" not in home]
    if spec.group != "embedded":
        assert all(home in text for home in living)
        assert not any(home in text for home in spec.homes if home not in living)
    assert not (tmp_path / "data").exists()


def test_cars_say_why_they_cannot_be_downloaded(tmp_path):
    with pytest.raises(ValueError, match=r"torchvision no longer downloads it; get it from .*GPS"):
        download(load_spec("fgvc-stanfordcar"), tmp_path)


def test_a_failed_download_says_what_to_do(tmp_path, monkeypatch):
    """Torchvision's own code runs and fails at the socket, as it does without a network."""
    import socket

    def unreachable(*args, **kwargs):
        raise OSError("the network is unreachable")

    monkeypatch.setattr(socket, "getaddrinfo", unreachable)
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "http_proxy", "https_proxy"):
        monkeypatch.delenv(name, raising=False)
    with pytest.raises(FileNotFoundError, match=r"by torchvision failed .*: get it from https"):
        download(load_spec("fgvc-oxfordflower"), tmp_path)
