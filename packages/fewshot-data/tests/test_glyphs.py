"""Rendered characters: what is held out stays out, drawings are facts, mistakes are explained."""

import unicodedata
from collections import Counter
from dataclasses import replace
from functools import cache
from importlib.machinery import ModuleSpec

import numpy as np
import pytest

from fewshot_data import (
    character_names,
    few_shot,
    glyph_characters,
    glyph_render,
    installed,
    load_spec,
)
from fewshot_data.glyph_characters import (
    HELD_OUT_SCRIPTS,
    compositions,
    script_letters,
    source_characters,
)
from fewshot_data.glyph_render import FACES, PRETRAINING_FACES, STYLES, draw
from fewshot_data.glyphs import Drawings, open_source
from fewshot_data.registry import list_datasets

NAMES = [spec.name for spec in list_datasets() if spec.source == "glyphs"]
TARGETS = [name for name in NAMES if name != "glyphs"]


@cache
def opened(name, seed=0):
    return open_source(load_spec(name), seed=seed)


def with_options(**options):
    return replace(load_spec("glyphs-georgian"), options=options)


def seen_drawings():
    """Every drawing that pretraining may start from."""
    drawn = (draw(c.code, face) for c in source_characters() for face in PRETRAINING_FACES)
    return {image.tobytes() for image in drawn if image is not None}


def seen_before(characters):
    """Characters and faces whose drawing pretraining knows, under another name."""
    seen = seen_drawings()
    pairs = ((c, face, draw(c.code, face)) for c in characters for face in FACES)
    return {(c.name, face) for c, face, image in pairs if image and image.tobytes() in seen}


@pytest.mark.parametrize("name", NAMES)
def test_a_dataset_has_what_its_file_states(name):
    spec, raw = load_spec(name), opened(name)
    images = spec.options.get("images", 40)
    assert len(raw.class_names) == spec.classes
    assert len(raw.test_indices) == spec.splits["test"]
    left = images - spec.splits["test"] // spec.classes
    assert spec.splits["train"] == f"the other {left} of each class"
    assert Counter(raw.labels) == dict.fromkeys(range(spec.classes), images)
    assert Counter(raw.labels[i] for i in raw.train_indices).keys() == set(range(spec.classes))


@pytest.mark.parametrize("name", NAMES)
def test_every_sample_is_tested_on_or_drawn_from(name):
    raw = opened(name)
    assert sorted(raw.train_indices + raw.test_indices) == list(range(len(raw.samples)))


@pytest.mark.parametrize("name", NAMES)
def test_images_are_white_ink_on_black_that_fills_part_of_the_cell(name):
    raw = opened(name)
    for image in (raw.samples[i] for i in range(0, len(raw.samples), 97)):
        pixels = np.asarray(image)
        assert (image.mode, image.size) == ("L", (32, 32))
        assert np.median(pixels) < 128 < pixels.max()
        assert 5 < (pixels > 64).sum() < 700


@pytest.mark.parametrize("name", NAMES)
def test_class_names_are_different_lower_case_unicode_names(name):
    names = opened(name).class_names
    assert len(set(names)) == len(names)
    for class_name in names:
        known = unicodedata.lookup(class_name)
        assert class_name == unicodedata.name(known).lower()


def test_few_shot_reads_them():
    data = few_shot("glyphs-georgian", 2, seed=0)
    assert len(data.class_names) == 43
    assert len(data.train) == 86


@pytest.mark.parametrize("name", TARGETS)
def test_the_same_seed_gives_the_same_data(name):
    first, again = opened(name), open_source(load_spec(name), seed=0)
    assert first.samples.keys == again.samples.keys
    assert (first.labels, first.test_indices) == (again.labels, again.test_indices)


@pytest.mark.parametrize("name", TARGETS)
def test_a_seed_moves_the_test_split_and_not_the_images(name):
    first, other = opened(name), opened(name, seed=1)
    assert first.test_indices != other.test_indices
    assert first.samples.keys == other.samples.keys
    assert (first.labels, first.class_names) == (other.labels, other.class_names)


@pytest.mark.parametrize("style", STYLES)
def test_an_image_drawn_again_is_the_same_image(style):
    for code, face in ((0x10D0, "DejaVuSerif"), (ord("g"), "STIXGeneral")):
        afresh = draw.__wrapped__(code, face, style)
        assert afresh is not draw(code, face, style)
        assert afresh.tobytes() == draw(code, face, style).tobytes()


def test_jitter_depends_on_the_image_and_not_on_the_global_generator():
    import random

    keys = [(ord("R"), "DejaVuSansMono", copy) for copy in range(5)]
    random.seed(1)
    before = random.getstate()
    first = [image.tobytes() for image in Drawings(keys, "plain")]
    assert random.getstate() == before
    assert len(set(first)) == 5
    from fewshot_data import glyphs

    glyphs._copy.cache_clear()
    random.seed(2)
    reordered = [image.tobytes() for image in Drawings(keys[::-1], "plain")]
    assert reordered[::-1] == first


def test_no_image_of_a_dataset_appears_twice():
    samples = opened("glyphs-georgian").samples
    assert len(set(samples.keys)) == len(samples) == len({i.tobytes() for i in samples})


def test_an_outline_surrounds_the_ink_it_leaves_out():
    plain, outline = (np.asarray(draw(ord("I"), "DejaVuSans-Bold", s)) > 128 for s in STYLES)
    assert not (plain & outline)[plain.nonzero()[0].min() + 2 : plain.nonzero()[0].max() - 2].any()
    assert outline.nonzero()[0].min() < plain.nonzero()[0].min()


def test_every_face_draws_the_outline_of_what_it_draws():
    for character in (*compositions(), *script_letters("georgian")):
        drawn = {style: [draw(character.code, f, style) is None for f in FACES] for style in STYLES}
        assert drawn["plain"] == drawn["outline"]


@pytest.mark.parametrize("name", TARGETS)
def test_no_class_of_a_target_is_a_class_of_pretraining(name):
    assert set(opened(name).class_names).isdisjoint(opened("glyphs").class_names)
    codes = {code for code, _, _ in opened(name).samples.keys}
    assert codes.isdisjoint(character.code for character in source_characters())


@pytest.mark.parametrize("script", HELD_OUT_SCRIPTS)
def test_no_source_character_mentions_a_script_that_is_held_out(script):
    words = {word for character in source_characters() for word in character.name.split()}
    assert script not in words


def test_no_georgian_drawing_was_seen_under_another_name():
    assert seen_before(script_letters("georgian")) == set()


def test_the_few_drawings_that_were_seen_under_another_name_are_those_the_notes_admit():
    letters = ("small letter ho", "small letter vo", "small letter seh")
    armenian = [f"armenian {x}" for x in (*letters, "capital letter seh", "capital letter oh")]
    sans = ("DejaVuSans", "DejaVuSans-Oblique")
    assert seen_before(script_letters("armenian")) == {(x, face) for x in armenian for face in sans}
    assert "Five letters" in load_spec("glyphs-armenian").notes
    serif = ("DejaVuSerif", "DejaVuSerif-Bold")
    stroked = "cyrillic small letter ka with stroke"
    assert seen_before(compositions()) == {(stroked, face) for face in serif}
    assert stroked in load_spec("glyphs-combos-outline").notes


def test_every_word_of_a_composition_is_in_the_names_of_two_source_characters_at_least():
    seen = Counter(word for c in source_characters() for word in set(c.name.split()))
    for composition in compositions():
        assert " with " in composition.name
        assert all(seen[word] >= 2 for word in composition.name.split()), composition.name
        assert sum(draw(composition.code, face) is not None for face in FACES) >= 4


@pytest.mark.parametrize("script", ["georgian", "armenian"])
def test_letters_of_a_script_are_drawn_by_ten_faces(script):
    for letter in script_letters(script):
        assert letter.name.startswith(f"{script} ")
        assert sum(draw(letter.code, face) is not None for face in FACES) >= 10


@pytest.mark.parametrize(
    "chosen",
    [
        lambda: (*source_characters(), *compositions()),
        lambda: script_letters("georgian"),
        lambda: script_letters("armenian"),
    ],
)
def test_characters_that_look_alike_in_sans_are_one_under_the_lowest_code_point(chosen):
    characters, first = chosen(), PRETRAINING_FACES[0]
    drawings = {draw(c.code, first).tobytes(): c.code for c in characters}
    assert len(drawings) == len(characters)
    scripts = {c.name.split()[0] for c in characters}
    others = (c for c in character_names.characters() if c.name.split()[0] in scripts)
    letters = [c for c in others if c.category[0] == "L" or c.category == "Nd"]
    assert len(letters) > len(characters)
    for other in letters:
        image = draw(other.code, first)
        assert image is None or drawings.get(image.tobytes(), other.code) <= other.code


def test_greek_capital_alpha_is_the_latin_letter_it_looks_like():
    names = {character.name for character in source_characters()}
    assert "latin capital letter a" in names
    assert "greek capital letter alpha" not in names


def test_a_face_that_lacks_a_character_draws_nothing():
    assert draw(0x4E00, "DejaVuSans") is None  # a Chinese character
    assert draw(ord(" "), "DejaVuSans") is None


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"characters": "script", "script": "georgian", "style": "bold"}, "unknown style 'bold'.*"),
        ({"characters": "all"}, "unknown characters 'all': known: source, compositions, script"),
        ({"characters": "script", "script": "latin"}, "unknown script 'latin': known: armenian.*"),
        ({"characters": "script"}, "unknown script '': known: armenian, georgian.*"),
        ({"characters": "script", "script": "lao"}, "script 'lao': no letter is drawn by ten.*"),
        ({"images": 1}, "images is 1: give at least 2 per class"),
        ({"images": -3}, "images is -3.*"),
        ({"images": "many"}, "option 'images' of source 'glyphs' is 'many'.*whole number"),
        ({"test_share": 1.0}, "test_share is 1.0: it must lie between 0 and 1.*"),
        ({"styel": "plain"}, "unknown option 'styel' for source 'glyphs'; did you mean 'style'.*"),
    ],
)
def test_an_option_that_makes_no_sense_is_explained(options, message):
    with pytest.raises(ValueError, match=message):
        open_source(with_options(**options), seed=0)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((ord("A"), "Comic"), "unknown face 'Comic': known: DejaVuSans,.*"),
        ((ord("A"), "DejaVuSans", "bold"), "unknown glyph style 'bold': known: plain, outline"),
    ],
)
def test_an_unknown_face_or_style_is_named(arguments, message):
    with pytest.raises(ValueError, match=message):
        draw(*arguments)


def test_the_data_does_not_depend_on_the_unicode_tables_of_python(monkeypatch):
    wanted = {name: opened(name) for name in TARGETS}

    def refuse(*_):
        raise AssertionError("the names are pinned")

    for function in ("name", "category", "lookup"):
        monkeypatch.setattr(unicodedata, function, refuse)
    for cached in (character_names.characters, compositions, source_characters):
        cached.cache_clear()
    glyph_characters._alphabets.cache_clear()
    for name, before in wanted.items():
        again = open_source(load_spec(name), seed=0)
        assert again.samples.keys == before.samples.keys
        assert again.class_names == before.class_names


@pytest.mark.parametrize("found", ["no package", "a package without fonts"])
def test_without_the_fonts_the_extra_to_install_is_named(found, monkeypatch, tmp_path):
    package = ModuleSpec("matplotlib", None, is_package=True)
    package.submodule_search_locations.append(str(tmp_path))
    answer = None if found == "no package" else package
    monkeypatch.setattr(installed, "find_spec", lambda _: answer)
    glyph_render._font.cache_clear()
    with pytest.raises(FileNotFoundError, match=r"matplotlib.*pip install 'fewshot-data\[embedded"):
        draw.__wrapped__(ord("A"), "DejaVuSans")
