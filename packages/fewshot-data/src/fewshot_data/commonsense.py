"""The commonsense benchmark of LLM-Adapters: prompts, answers, accuracy, and the held-out rows."""

import re
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from fewshot_data.commonsense_files import DERIVED, TASKS, Records, held_out_rows
from fewshot_data.registry import load_spec

__all__ = [
    "DERIVED",
    "TASKS",
    "TEMPLATES",
    "Records",
    "accuracy",
    "held_out_rows",
    "mean_accuracy",
    "parse_answer",
    "prompt",
    "training_text",
]

HEAD = (
    "Below is an instruction that describes a task. "
    "Write a response that appropriately completes the request."
)
INDENT = " " * 16
RESPONSE = "### Response:"


class Template(NamedTuple):
    """Text before a response, in training and in evaluation; ``{}`` is the instruction."""

    train: str
    evaluate: str


TEMPLATES: dict[str, Template] = {
    "llm-adapters": Template(
        train=f"{HEAD}  \n\n{INDENT}### Instruction:\n{INDENT}{{}}\n{INDENT}\n"
        f"{INDENT}{RESPONSE}\n{INDENT}",
        evaluate=f"{HEAD} \n\n{INDENT}### Instruction:\n{INDENT}{{}}\n\n"
        f"{INDENT}{RESPONSE}\n{INDENT}",
    ),
    "alpaca": Template(*2 * (f"{HEAD}\n\n### Instruction:\n{{}}\n\n{RESPONSE}\n",)),
}
"""Prompts by name. ``llm-adapters`` is the release's, byte for byte: its training texts have two
spaces after the first line and an indented empty line, its evaluation has neither."""


def training_text(instruction: str, output: str, *, template: str = "llm-adapters") -> str:
    r"""The text to train on: prompt and response.

    The release computes the loss on all of it, prompt included, and cuts it at 256 tokens.

    Args:
        instruction: The task in words.
        output: The response, such as ``"the correct answer is true"``.
        template: One of `TEMPLATES`.

    Returns:
        One text, without the end-of-sequence token that the release adds where there is room.

    Raises:
        ValueError: If the template is unknown.

    Examples:
        >>> training_text("Is it?", "yes", template="alpaca").endswith("### Response:\nyes")
        True
    """
    return _template(template).train.replace("{}", instruction, 1) + output


def prompt(instruction: str, *, template: str = "llm-adapters") -> str:
    r"""The text that a model is to continue.

    Args:
        instruction: The task in words.
        template: One of `TEMPLATES`.

    Returns:
        The prompt, which ends where the response begins.

    Raises:
        ValueError: If the template is unknown.

    Examples:
        >>> prompt("Is it?", template="alpaca").endswith("\n\n### Response:\n")
        True
    """
    return _template(template).evaluate.replace("{}", instruction, 1)


def parse_answer(task: str, generated: str) -> str:
    """The answer in a generated text: the first of the task's words that occurs in the response.

    The response is what stands between the first ``### Response:`` and the next one, or the whole
    text where there is none.

    Args:
        task: One of `TASKS`, or another name that `load_spec` takes for it.
        generated: What the model wrote, with or without the prompt.

    Returns:
        Such as ``"answer2"``; empty if there is none, which counts as wrong.

    Raises:
        ValueError: If the task is unknown.

    Examples:
        >>> parse_answer("piqa", "### Response: the correct answer is solution2 or solution1")
        'solution2'

    Reference:
        ``extract_answer`` in ``commonsense_evaluate.py`` of ``AGI-Edgerunners/LLM-Adapters``.
    """
    parts = generated.split(RESPONSE)
    response = parts[1] if len(parts) > 1 else generated
    match = re.search("|".join(map(re.escape, _words(task))), response)
    return match.group() if match else ""


def accuracy(task: str, generated: Sequence[str], answers: Sequence[str]) -> float:
    r"""The share of generated texts whose answer is the right one.

    Args:
        task: One of `TASKS`.
        generated: One text for each question.
        answers: The right answers.

    Returns:
        A share from 0 to 1.

    Raises:
        ValueError: If the numbers of texts and answers differ or are zero, or the task is unknown.

    Examples:
        >>> accuracy("boolq", ["it is true", "who knows"], ["true", "false"])
        0.5
    """
    if len(generated) != len(answers) or not answers:
        raise ValueError(
            f"generated has {len(generated)} texts and answers {len(answers)}: "
            "give one text for each answer, and at least one"
        )
    pairs = zip(generated, answers, strict=True)
    return sum(parse_answer(task, text) == answer for text, answer in pairs) / len(answers)


def mean_accuracy(accuracies: Mapping[str, float]) -> float:
    """The plain mean over the eight tasks, however many questions each has.

    Args:
        accuracies: One number for each of `TASKS`, in the same unit.

    Returns:
        Their mean.

    Raises:
        ValueError: If a task is missing or unknown.

    Examples:
        >>> mean_accuracy({task: 0.5 for task in TASKS})
        0.5
    """
    if set(accuracies) != set(TASKS):
        wrong = sorted(set(TASKS) ^ set(accuracies))
        raise ValueError(f"accuracies must have the tasks {', '.join(TASKS)}; differing: {wrong}")
    return sum(accuracies.values()) / len(TASKS)


def _words(task: str) -> Sequence[str]:
    """What the release looks for in responses to a task."""
    spec = load_spec(task)
    if spec.source != "commonsense" or not spec.options.get("words"):
        raise ValueError(f"unknown commonsense task '{task}': known: {', '.join(TASKS)}")
    return spec.options["words"]


def _template(name: str) -> Template:
    """A template by its name."""
    if name not in TEMPLATES:
        raise ValueError(f"unknown template '{name}': known: {', '.join(TEMPLATES)}")
    return TEMPLATES[name]
