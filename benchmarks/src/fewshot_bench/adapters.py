"""Saving what was adapted, and evaluating it again with the same result.

A PEFT method writes PEFT's own folder; any other writes `model.safetensors` with the trained
parameters alone. Beside it, `run.json` holds the configuration, so that loading can rebuild the
rest. Nothing is ever unpickled.
"""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from safetensors.torch import save as serialise

from fewshot_bench import metrics
from fewshot_bench.atomic import write_folder
from fewshot_bench.config import RunConfig
from fewshot_bench.methods import find_method
from fewshot_bench.reproducible import reproducible
from fewshot_bench.saved_run import SavedRun, check_folder, read_record, write_record
from fewshot_bench.task import open_task
from fewshot_bench.tuned import Tuned

if TYPE_CHECKING:
    from fewshot_data import FewShotData
    from vision_backbones import Backbone

__all__ = ["check_folder", "check_kind", "evaluate_saved", "load", "save", "weight_bytes"]

PLAIN_FILE, PEFT_FILE = "model.safetensors", "adapter_model.safetensors"
PEFT_CONFIG = "adapter_config.json"
METADATA = {"format": "pt"}  # as PEFT writes it


def save(
    tuned: Tuned,
    config: RunConfig,
    folder: str | Path,
    scores: metrics.Metrics,
    class_names: tuple[str, ...],
) -> Path:
    """Write an adapted model, whole or not at all.

    Args:
        tuned: The adapted model.
        config: How it was made. Paths in it are stored as absolute ones.
        folder: The destination; an earlier save there is replaced.
        scores: Its accuracy, for comparison.
        class_names: In the order of the logits.

    Returns:
        The folder.

    Raises:
        ValueError: The folder holds something else.
        OSError: It cannot be written; what was there is still there.
    """
    check_folder(folder)
    config = replace(config, dataset=_absolute(config.dataset))
    if config.checkpoint is not None:
        config = replace(config, checkpoint=_absolute(config.checkpoint))
    record = SavedRun(config, scores.correct, scores.count, scores.accuracy, class_names)

    def fill(temporary: Path) -> None:
        from peft import PeftModel

        try:
            if isinstance(tuned.model, PeftModel):
                tuned.model.save_pretrained(str(temporary), save_embedding_layers=False)
            else:
                save_file(_tensors(tuned), temporary / PLAIN_FILE, METADATA)
        except SafetensorError as error:  # how safetensors reports a full disk
            raise OSError(str(error)) from error
        write_record(record, temporary)

    return write_folder(folder, fill)


def load(
    folder: str | Path,
    dataset: str | None = None,
    device: str | None = None,
    root: str | None = None,
) -> tuple[Tuned, "FewShotData", RunConfig]:
    """Rebuild a saved model: backbone and data from the configuration, the rest from the folder.

    Args:
        folder: What `save` wrote.
        dataset: Other data with the same classes; by default those it was trained on.
        device: Another device; by default the one it was trained on.
        root: Folder of the datasets on disk, which a saved run does not remember.

    Returns:
        The model, the data, and the configuration that belongs to them.

    Raises:
        FileNotFoundError: There is no saved run, or no data.
        ValueError: A file is damaged, or belongs to another model or to other classes.
    """
    folder = Path(folder)
    record = read_record(folder)
    config = record.config
    config = replace(
        config, dataset=dataset or config.dataset, device=device or config.device, root=root
    )
    with reproducible(config):
        data, backbone = open_task(config, train=False)
        if data.class_names != record.class_names:
            raise ValueError(
                f"{folder} was adapted to the classes {_few(record.class_names)}, dataset "
                f"{config.dataset!r} has {_few(data.class_names)}: use data with the same classes"
            )
        if (folder / PEFT_CONFIG).is_file():
            return _load_peft(folder, backbone), data, config
        tuned = find_method(config.method).build(backbone, config)
        _fill(tuned, folder / PLAIN_FILE)
    return tuned, data, config


def evaluate_saved(
    folder: str | Path,
    dataset: str | None = None,
    device: str | None = None,
    root: str | None = None,
) -> metrics.Metrics:
    """Evaluate a saved model again; on the same data and machine, with the same result.

    Args:
        folder: What `save` wrote.
        dataset: Other data with the same classes; by default those it was trained on.
        device: Another device; by default the one it was trained on.
        root: Folder of the datasets on disk, which a saved run does not remember.

    Returns:
        Correct answers among the test examples.

    Raises:
        FileNotFoundError: There is no saved run, or no data.
        ValueError: A file is damaged, or belongs to another model or to other classes.
    """
    tuned, data, config = load(folder, dataset, device, root)
    with reproducible(config):
        batches = data.test_batches(metrics.TEST_BATCH)
        return metrics.evaluate(tuned.model, batches, device=config.device, metric=data.spec.metric)


def check_kind(config: RunConfig) -> None:
    """Refuse what PEFT's files have no place for, before anything is trained.

    Args:
        config: The run that is to be saved.

    Raises:
        ValueError: Adapters are trained with something of the backbone beside them.
    """
    beside = config.place.rest or config.place.class_token
    if beside and config.method in ("lora", "klora", "snell"):
        raise ValueError(
            f"--save with method {config.method!r} holds adapters and the head only, but "
            "place.rest or place.class_token trains more: turn them off, or do not save"
        )


def weight_bytes(tuned: Tuned) -> int:
    """Measure what `save` would write.

    Args:
        tuned: The adapted model.

    Returns:
        Size of the safetensors file in bytes.
    """
    return len(serialise(_tensors(tuned), METADATA))


def _is_peft(tuned: Tuned) -> bool:
    """Tell whether PEFT wrapped the model."""
    return hasattr(tuned.model, "peft_config")


def _tensors(tuned: Tuned) -> dict[str, torch.Tensor]:
    """Give what a save holds: everything but frozen parameters, on the CPU."""
    if _is_peft(tuned):
        from peft import get_peft_model_state_dict

        state = get_peft_model_state_dict(tuned.model, save_embedding_layers=False)
    else:
        frozen = {name for name, p in tuned.model.named_parameters() if not p.requires_grad}
        state = {k: v for k, v in tuned.model.state_dict().items() if k not in frozen}
    return {name: tensor.detach().cpu().contiguous() for name, tensor in state.items()}


def _load_peft(folder: Path, backbone: "Backbone") -> Tuned:
    """Wrap a backbone with the adapter that PEFT saved."""
    from peft import PeftModel

    from snell_layers.peft import SnellConfig  # noqa: F401  makes it known to PEFT

    if not (folder / PEFT_FILE).is_file():  # PEFT would look for it on the network
        raise FileNotFoundError(f"{folder} has no {PEFT_FILE}: the saved run is incomplete")
    try:
        model = PeftModel.from_pretrained(backbone, str(folder))
    except (SafetensorError, RuntimeError, KeyError, TypeError, ValueError) as error:
        raise ValueError(f"{folder} cannot be loaded, it is damaged: {error}") from error
    return Tuned(model)


def _fill(tuned: Tuned, path: Path) -> None:
    """Load trained parameters; every name and shape has to fit."""
    if not path.is_file():
        raise FileNotFoundError(f"{path.parent} has no {path.name}: the saved run is incomplete")
    try:
        stored = load_file(path)
    except (SafetensorError, OSError) as error:
        raise ValueError(f"{path} cannot be read, it is damaged: {error}") from error
    expected = {name: tensor.shape for name, tensor in _tensors(tuned).items()}
    found = {name: tensor.shape for name, tensor in stored.items()}
    if found != expected:
        names = sorted(k for k in {*found, *expected} if found.get(k) != expected.get(k))
        raise ValueError(f"{path} does not belong to this model: {_few(names)} differ")
    tuned.model.load_state_dict(stored, strict=False)


def _few(names: Sequence[str]) -> str:
    """List some names, and say how many more there are."""
    more = f" and {len(names) - 4} more" if len(names) > 4 else ""
    return ", ".join(map(repr, names[:4])) + more


def _absolute(path: str) -> str:
    """Make a path absolute if it is one; names of datasets and `random` stay."""
    return str(Path(path).resolve()) if Path(path).exists() else path
