"""Names of characters as texts: held out, masked, turned around, pinned."""

import unicodedata
from collections import Counter
from dataclasses import replace

import pytest

from fewshot_data import character_names, few_shot, load_spec, unicode_names
from fewshot_data.character_names import characters, stable_fraction
from fewshot_data.registry import list_datasets
from fewshot_data.unicode_names import FEWEST, MOST, held_out_names, open_source, pretraining_names

NAMES = [spec.name for spec in list_datasets() if spec.source == "unicode-names"]
SCRIPT, REVERSED = "unicode-names-script", "unicode-names-script-reversed"


def opened(name, seed=0):
    return open_source(load_spec(name), seed=seed)


@pytest.mark.parametrize("name", NAMES)
def test_a_dataset_has_what_its_file_states(name):
    spec, raw = load_spec(name), opened(name)
    assert len(raw.class_names) == spec.classes
    assert len(raw.test_indices) == spec.splits["test"] or "half of each" in spec.splits["test"]
    counts, tested = Counter(raw.labels), Counter(raw.labels[i] for i in raw.test_indices)
    for label, count in counts.items():
        assert FEWEST <= count <= MOST
        assert abs(tested[label] - count / 2) <= 0.5
        assert count - tested[label] >= 16
    assert sorted(raw.train_indices + raw.test_indices) == list(range(len(raw.samples)))


def test_the_class_sizes_are_those_of_the_notes():
    counts = Counter(opened(SCRIPT).labels).values()
    assert f"{min(counts)} to {max(counts)} names a class" in load_spec(SCRIPT).notes
    assert set(Counter(opened("unicode-names").labels).values()) == {96}


@pytest.mark.parametrize("name", NAMES)
def test_texts_are_different_within_a_class(name):
    raw = opened(name)
    assert len(set(zip(raw.labels, raw.samples, strict=True))) == len(raw.samples)


@pytest.mark.parametrize("name", NAMES)
def test_a_seed_moves_the_test_split_and_not_the_texts(name):
    first, again, other = opened(name), opened(name), opened(name, seed=1)
    assert first == again
    assert first.test_indices != other.test_indices
    assert (first.samples, first.labels) == (other.samples, other.labels)


def test_few_shot_reads_them():
    assert len(few_shot("unicode-names", 16, seed=0).train) == 11 * 16


def test_every_name_is_either_for_pretraining_or_held_out():
    kept, seen = held_out_names(), pretraining_names()
    assert sorted(kept + seen) == list(characters())
    assert {c.name for c in kept}.isdisjoint(c.name for c in seen)
    assert 0.29 < len(kept) / len(characters()) < 0.31


def test_no_text_of_a_target_was_seen_in_pretraining():
    seen = {character.name for character in pretraining_names()}
    assert seen.isdisjoint(opened("unicode-names").samples)
    for name, order in ((SCRIPT, 1), (REVERSED, -1)):
        raw = opened(name)
        for text, label in zip(raw.samples, raw.labels, strict=True):
            words = text.replace("[MASK]", raw.class_names[label]).split()[::order]
            assert " ".join(words) not in seen


def test_categories_are_those_of_the_characters():
    category = {c.name: unicode_names.CATEGORIES.get(c.category) for c in characters()}
    raw = opened("unicode-names")
    for text, label in zip(raw.samples, raw.labels, strict=True):
        assert category[text] == raw.class_names[label]


@pytest.mark.parametrize("name", [SCRIPT, REVERSED])
def test_the_mask_stands_where_the_script_was(name):
    place = {SCRIPT: 0, REVERSED: -1}[name]
    for text in opened(name).samples:
        assert text.split()[place] == "[MASK]"
        assert text.count("[MASK]") == 1


@pytest.mark.parametrize("name", [SCRIPT, REVERSED])
def test_the_script_is_not_given_away(name):
    raw = opened(name)
    pairs = zip(raw.samples, raw.labels, strict=True)
    assert [text for text, label in pairs if raw.class_names[label] in text.split()] == []


def test_reversing_turns_the_words_around_and_nothing_else():
    usual, turned = opened(SCRIPT), opened(REVERSED)
    assert [" ".join(text.split()[::-1]) for text in usual.samples] == turned.samples
    assert (usual.labels, usual.test_indices) == (turned.labels, turned.test_indices)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"label": "block"}, "unknown label 'block': known: category, script"),
        ({"lable": "script"}, "unknown option 'lable' for source 'unicode-names'; did you.*'label"),
        ({"reversed": "yes"}, "option 'reversed' of source 'unicode-names' is 'yes'.*"),
        ({"test_share": 0.0}, "test_share is 0.0: it must lie between 0 and 1.*"),
    ],
)
def test_an_option_that_makes_no_sense_is_explained(options, message):
    with pytest.raises(ValueError, match=message):
        open_source(replace(load_spec("unicode-names"), options=options), seed=0)


def test_the_data_does_not_depend_on_the_unicode_tables_of_python(monkeypatch):
    wanted = {name: opened(name) for name in NAMES}

    def refuse(*_):
        raise AssertionError("the names are pinned")

    for function in ("name", "category", "lookup"):
        monkeypatch.setattr(unicodedata, function, refuse)
    characters.cache_clear()
    unicode_names._rows.cache_clear()
    assert {name: opened(name) for name in NAMES} == wanted


def test_the_pinned_names_agree_with_pythons_where_both_have_one():
    for character in characters()[::50]:
        assert unicodedata.name(chr(character.code)).lower() == character.name


def test_the_pinned_file_is_sorted_and_complete_lines():
    found = characters()
    assert list(found) == sorted(set(found))
    assert len(found) == len(character_names.NAMES_FILE.read_bytes().splitlines())
    assert all(c.name == c.name.strip().lower() and len(c.category) == 2 for c in found)


def test_a_stable_fraction_is_spread_evenly_and_depends_on_the_salt():
    draws = [stable_fraction(c.name, salt="a") for c in characters()]
    assert all(0 <= draw < 1 for draw in draws)
    shares = Counter(int(10 * draw) for draw in draws)
    assert all(abs(shares[tenth] / len(draws) - 0.1) < 0.01 for tenth in range(10))
    assert stable_fraction("x", salt="a") != stable_fraction("x", salt="b")
    assert round(stable_fraction("latin small letter a", salt="example"), 3) == 0.312
