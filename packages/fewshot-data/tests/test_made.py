"""Copies of published data: each dataset on disk, in each layout, opened as a user opens it."""

import pytest

from fewshot_data import few_shot, list_datasets, load_spec
from fewshot_data.made import MAKERS, layouts, make
from fewshot_data.sources import ON_DISK

COPIES = [
    (spec.name, layout)
    for spec in list_datasets()
    if spec.source in ON_DISK
    for layout in layouts(spec)
]


@pytest.mark.parametrize(("name", "layout"), COPIES)
def test_a_copy_in_every_layout_is_opened_from_its_root_and_from_its_own_folder(
    tmp_path, name, layout
):
    spec = load_spec(name)
    folder = make(spec, tmp_path / "root", layout=layout)
    assert (tmp_path / "root") in folder.parents
    # A copy need not have every class, and this protocol takes what there is.
    data = few_shot(name, 1, seed=1, root=tmp_path / "root", protocol="coop")
    assert len(data.test) > 0
    assert len(data.train) > 0 or spec.splits.get("train", "none") == "none"
    assert len(few_shot(name, 0, seed=1, root=folder).test) == len(data.test)


def test_every_source_on_disk_has_a_maker():
    assert set(ON_DISK) <= set(MAKERS)


def test_what_cannot_be_made_is_refused(tmp_path):
    with pytest.raises(ValueError, match="no copy of 'digits' can be made"):
        make(load_spec("digits"), tmp_path)
    with pytest.raises(ValueError, match="unknown layout 'xml' of 'rte': known: parquet, saved"):
        make(load_spec("rte"), tmp_path, layout="xml")
