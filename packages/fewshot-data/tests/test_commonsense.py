"""Commonsense: the release's prompts byte for byte, its answers, its accuracy, its files."""

import json
import tracemalloc
from pathlib import Path

import datasets
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fewshot_data import few_shot, list_datasets, load_spec
from fewshot_data.commonsense import (
    TASKS,
    TEMPLATES,
    Records,
    accuracy,
    held_out_rows,
    mean_accuracy,
    parse_answer,
    prompt,
    training_text,
)
from fewshot_data.commonsense_files import open_source
from fewshot_data.made import make
from fewshot_data.made.commonsense import LAYOUTS

from .mutations import mutated

SETS = [spec.name for spec in list_datasets() if spec.source == "commonsense"]
TRAIN = (
    b"Below is an instruction that describes a task. Write a response that appropriately "
    b"completes the request.  \n"
    b"\n"
    b"                ### Instruction:\n"
    b"                Is {} it?\n"
    b"                \n"
    b"                ### Response:\n"
    b"                the correct answer is true"
)
EVALUATE = (
    b"Below is an instruction that describes a task. Write a response that appropriately "
    b"completes the request. \n"
    b"\n"
    b"                ### Instruction:\n"
    b"                Is {} it?\n"
    b"\n"
    b"                ### Response:\n"
    b"                "
)
ROW = {"instruction": "Is it?", "input": "", "output": "the correct answer is true"}


def write(path: Path, rows: object) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(rows, indent=4), encoding="utf-8")
    return path


def test_the_release_s_prompts_are_the_same_byte_for_byte():
    assert training_text("Is {} it?", "the correct answer is true").encode() == TRAIN
    assert prompt("Is {} it?").encode() == EVALUATE


def test_the_clean_prompt_is_the_same_in_training_and_evaluation():
    assert TEMPLATES["alpaca"].train == TEMPLATES["alpaca"].evaluate
    text = training_text("Is it?", "yes", template="alpaca")
    assert text == prompt("Is it?", template="alpaca") + "yes"
    assert text.split("\n")[1:] == ["", "### Instruction:", "Is it?", "", "### Response:", "yes"]
    for function in (lambda name: prompt("", template=name), TEMPLATES.__getitem__):
        with pytest.raises((ValueError, KeyError), match="alpacca"):
            function("alpacca")


@pytest.mark.parametrize(
    ("task", "generated", "answer"),
    [
        ("boolq", "the correct answer is false, not true", "false"),
        ("boolq", "True", ""),
        ("piqa", "solution2 solution1", "solution2"),
        ("piqa", "solution3", ""),
        ("social_i_qa", "answer4", "answer4"),
        ("ARC-Challenge", "answer5", "answer5"),
        ("arc-easy", "answer5 or answer1", "answer5"),
        ("openbookqa", "answer6", ""),
        ("hellaswag", "ending4ending1", "ending4"),
        ("winogrande", "option22", "option2"),
        ("winogrande", "", ""),
        ("boolq", f"{prompt('true or false?')} the correct answer is false", "false"),
        ("boolq", "### Response: who knows ### Response: true", ""),
        ("boolq", "true ### Response: false", "false"),
    ],
)
def test_the_first_answer_of_the_first_response_counts(task, generated, answer):
    assert parse_answer(task, generated) == answer


def test_accuracy_is_per_task_and_the_mean_is_plain():
    assert accuracy("piqa", ["solution1", "solution2", ""], ["solution1"] * 3) == 1 / 3
    with pytest.raises(ValueError, match="generated has 1 texts and answers 2"):
        accuracy("piqa", [""], ["solution1"] * 2)
    with pytest.raises(ValueError, match="unknown commonsense task 'rte'"):
        accuracy("rte", [""], [""])
    scores = {task: float(number) for number, task in enumerate(TASKS)}
    assert mean_accuracy(scores) == 3.5
    with pytest.raises(ValueError, match=r"differing: \['boolq'\]"):
        mean_accuracy({task: 1.0 for task in TASKS if task != "boolq"})


@pytest.mark.parametrize("count", [121, 500])
def test_the_held_out_rows_are_those_of_the_library_s_split(count):
    table = datasets.Dataset.from_dict({"row": list(range(count))})
    library = table.train_test_split(test_size=120, shuffle=True, seed=42)
    assert held_out_rows(count) == (library["train"]["row"], library["test"]["row"])
    with pytest.raises(ValueError, match="size is 120: hold out 0 to 99 of the 100 rows"):
        held_out_rows(100)


@pytest.mark.parametrize("name", SETS)
def test_every_form_on_disk_gives_the_same_rows(tmp_path, name):
    spec = load_spec(name)
    found = []
    for layout in LAYOUTS:
        make(spec, tmp_path / layout, layout=layout)
        raw = open_source(spec.at(tmp_path / layout), seed=0)
        found.append((list(raw.samples), raw.labels, raw.train_indices, raw.test_indices))
        assert len(raw.class_names) == spec.classes
        for text, label in zip(raw.samples, raw.labels, strict=True):
            assert f"“{raw.class_names[label]}”" in text
        assert raw.official is not None
        assert raw.official(-1, 0) == raw.train_indices
        with pytest.raises(ValueError, match=r"fixes one training set of .* but shots is 3"):
            raw.official(3, 0)
    assert found[0] == found[1] == found[2]
    assert not set(found[0][2]) & set(found[0][3])


def test_eight_tasks_and_170420_rows_are_registered():
    assert set(SETS) == {*TASKS, "commonsense_170k"}
    counts = [load_spec(task).splits["train"] for task in TASKS]
    assert sum(counts) == 170_420 == 170_300 + 120
    splits = load_spec("commonsense_170k").splits
    assert (splits["train"], splits["test"]) == (170_300, 120)
    answers = {answer for task in TASKS for answer in load_spec(task).options["answers"]}
    assert answers == set(load_spec("commonsense_170k").options["answers"])


@pytest.mark.parametrize("spelling", ["boolq", "BoolQ", "dataset/boolq", "dataset/BOOLQ"])
def test_the_folder_may_be_spelled_otherwise(tmp_path, spelling):
    for split in ("train", "test"):
        write(
            tmp_path / spelling / f"{split}.json",
            [{**ROW, "answer": answer} for answer in ("true", "false")],
        )
    assert len(few_shot("boolq", 1, seed=0, root=tmp_path).train) == 2


def test_without_training_rows_there_is_nothing_to_draw_but_all_to_evaluate(tmp_path):
    write(tmp_path / "boolq" / "test.json", [{**ROW, "answer": "false"}])
    assert len(few_shot("boolq", 0, seed=0, root=tmp_path).test) == 1
    with pytest.raises(ValueError, match="class 'true' has no sample to draw from"):
        few_shot("boolq", 1, seed=0, root=tmp_path)


def test_an_empty_answer_is_read_off_the_output(tmp_path):
    path = write(tmp_path / "a.json", [{**ROW, "answer": ""}, {**ROW, "answer": " false "}])
    assert Records(path).answers == ["true", "false"]
    assert Records(path)[0] == {**ROW, "answer": "true"}


@pytest.mark.parametrize("key", ["instruction", "input", "output", "answer"])
def test_each_row_needs_the_four_keys(tmp_path, key):
    whole = {**ROW, "answer": "true"}
    lacking = {name: value for name, value in whole.items() if name != key}
    for row, message in ((lacking, f"has no '{key}'"), ({**whole, key: 3}, f"has 3 as '{key}'")):
        with pytest.raises(ValueError, match=rf"row 2 of '.*a\.json' {message}"):
            Records(write(tmp_path / "a.json", [whole, row]))


@pytest.mark.parametrize("rows", [[], ["a"], {}, 3, [[]], [None]])
def test_files_of_another_shape_are_refused(tmp_path, rows):
    with pytest.raises(ValueError, match=r"a\.json'"):
        Records(write(tmp_path / "a.json", rows))


def test_an_answer_of_another_task_is_named(tmp_path):
    write(tmp_path / "boolq" / "test.json", [{**ROW, "answer": "answer1"}])
    with pytest.raises(ValueError, match=r"row 1 of .*boolq.*has the label 'answer1'"):
        few_shot("boolq", 0, seed=0, root=tmp_path)


def test_a_large_file_stays_on_disk(tmp_path):
    rows = [{**ROW, "instruction": "word " * 200, "answer": "true"} for _ in range(2000)]
    path = write(tmp_path / "a.json", rows)
    del rows
    tracemalloc.start()
    records = Records(path)
    held, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert len(records) == 2000
    assert held < path.stat().st_size / 10


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.data(), st.sampled_from(["test.json", "train.json"]))
def test_mutated_files_are_read_or_refused_never_crash(tmp_path, data, name):
    spec = load_spec("piqa")
    folder = make(spec, tmp_path)
    content = mutated(data, (folder / name).read_bytes(), times=4, cut=3, grown=3)
    (folder / name).write_bytes(content)
    try:
        raw = open_source(spec.at(tmp_path), seed=0)
        outcome = len(list(raw.samples)) == len(raw.labels)
    except ValueError as error:
        outcome = name in str(error)
    assert outcome
