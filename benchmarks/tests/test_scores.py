"""The metrics of the registry, against scikit-learn's and numpy's."""

from collections.abc import Callable

import numpy as np
import pytest
import torch

from fewshot_bench.config import RunConfig
from fewshot_bench.metrics import evaluate
from fewshot_bench.pipeline import run
from fewshot_bench.scores import SCORES
from fewshot_data import list_datasets, load_spec
from fewshot_data.made import make


def drawn(classes: int, seed: int) -> tuple[torch.Tensor, torch.Tensor]:
    draw = torch.Generator().manual_seed(seed)
    return torch.randn(40, classes, generator=draw), torch.randint(classes, (40,), generator=draw)


def reference(name: str, logits: torch.Tensor, labels: torch.Tensor) -> float:
    from sklearn import metrics

    predicted = logits.argmax(1)
    if name == "pearson":
        expected = logits.double().softmax(1) @ torch.arange(logits.shape[1]).double()
        return float(np.corrcoef(expected, labels)[0, 1])
    scorers: dict[str, Callable[..., float]] = {
        "top1": metrics.accuracy_score,
        "mean_per_class": metrics.balanced_accuracy_score,
        "matthews": metrics.matthews_corrcoef,
        "f1": metrics.f1_score,
    }
    return float(scorers[name](labels, predicted))


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("classes", [2, 5])
@pytest.mark.parametrize("name", SCORES)
def test_scores_are_those_of_others(name: str, classes: int, seed: int) -> None:
    logits, labels = drawn(2 if name == "f1" else classes, seed)
    assert SCORES[name](logits, labels) == pytest.approx(reference(name, logits, labels), abs=1e-9)


@pytest.mark.parametrize("name", ["matthews", "f1", "pearson"])
def test_one_answer_for_all_scores_nothing(name: str) -> None:
    logits = torch.tensor([[1.0, 0.0]]).repeat(4, 1)
    assert SCORES[name](logits, torch.tensor([0, 0, 1, 0])) == 0.0


def test_every_metric_of_the_registry_is_known() -> None:
    assert {spec.metric for spec in list_datasets()} <= {*SCORES}


def test_a_label_without_a_logit_is_refused() -> None:
    class Two(torch.nn.Module):
        def forward(self, batch: dict[str, torch.Tensor]) -> torch.Tensor:
            return batch["image"]

    batch = {"image": torch.eye(2), "label": torch.tensor([0, 2])}
    with pytest.raises(ValueError, match="has label 2, but the model has 2 classes"):
        evaluate(Two(), [batch])


@pytest.mark.filterwarnings("ignore")  # a copy has fewer samples than the published counts
@pytest.mark.parametrize("name", ["cola", "mrpc"])
def test_a_result_holds_the_metric_of_its_dataset(name: str, tmp_path: object) -> None:
    make(load_spec(name), str(tmp_path))
    config = RunConfig(
        method="linear_probe", backbone="tiny-bert", dataset=name, root=str(tmp_path), shots=1,
        steps=2, checkpoint="random",
    )  # fmt: skip
    info = run(config).train_info
    assert info.metric == load_spec(name).metric
    assert info.score is not None
    assert info.accuracy is not None
