import json
import math
import re
import shutil

import pytest
import torch

import fewshot_bench
from fewshot_bench import adapters
from fewshot_bench.config import PEERS, RunConfig, run_name
from fewshot_bench.methods import METHODS
from fewshot_bench.pipeline import run, train
from fewshot_bench.results import read_result, write_result


def test_the_public_names_are_there():
    for name in fewshot_bench.__all__:
        assert getattr(fewshot_bench, name)
    with pytest.raises(AttributeError, match="nothing"):
        fewshot_bench.nothing  # noqa: B018


def test_a_run_is_recorded_whole(configure):
    steps = []
    config = configure("linear_probe", steps=8)
    result = run(config, on_step=lambda step, loss: steps.append((step, loss)))
    info, train_info = result.run_info, result.train_info
    assert steps == list(enumerate(train_info.loss))
    assert info.name == run_name(config) == run_name(info.config)
    assert (info.status, info.error) == ("completed", None)
    assert info.config.lr is None
    assert info.config.head_lr > 0
    assert train_info.step_time_s.measured_steps == 4
    assert train_info.step_time_s.q25 <= train_info.step_time_s.median <= train_info.step_time_s.q75
    assert result.meta_info.packages["torch"] == torch.__version__.partition("+")[0]
    assert 0 < sum([train_info.step_time_s.median]) < info.total_time_s


def test_a_loss_that_explodes_becomes_a_failed_result(configure, tmp_path):
    result = run(configure("full", lr=1e30, steps=6), save=tmp_path / "saved")
    assert result.run_info.status == "failed"
    assert re.search(
        r"the loss is (nan|inf) at step [1-5] \(learning rates: backbone \d.*e\+",
        result.run_info.error,
    )
    assert "--lr" in result.run_info.error
    assert "\n" not in result.run_info.error
    info = result.train_info
    assert 1 <= len(info.loss) < 6
    assert all(map(math.isfinite, info.loss))
    assert (info.accuracy, info.correct, info.count) == (None, None, None)
    assert read_result(write_result(result, tmp_path / "run.json")) == result
    assert not (tmp_path / "saved").exists()


def test_logits_that_explode_in_the_last_step_are_a_failure_too(configure):
    result = run(configure("full", lr=1e30, steps=2))  # the head starts at 0
    assert result.run_info.status == "failed"
    assert "not finite" in result.run_info.error
    assert "after step 1 (lr 1e+30" in result.run_info.error
    assert len(result.train_info.loss) == 2
    assert result.train_info.accuracy is None


def test_no_steps_is_the_model_as_it_starts(configure):
    info = run(configure("lora", steps=0)).train_info
    assert (info.loss, info.changed_parameters, info.step_time_s.median) == ([], 0, None)
    assert info.count > 0


def test_seeds_change_the_run_and_methods_share_its_draws(configure):
    one, other = train(configure("linear_probe")), train(configure("linear_probe", seed=1))
    assert one.data.train.indices != other.data.train.indices
    assert train(configure("so")).data.train.indices == one.data.train.indices
    assert train(configure("so")).data.test.indices == one.data.test.indices


def test_more_shots_contain_fewer(configure):
    few, many = train(configure("linear_probe", shots=1)), train(configure("linear_probe", shots=4))
    assert set(few.data.train.indices) < set(many.data.train.indices)
    assert few.data.test.indices == many.data.test.indices


def test_the_test_limit_takes_examples_of_every_class(configure):
    data = train(configure("linear_probe", test_limit=3)).data
    assert sorted(data.test.labels[i] for i in data.test.indices) == [0, 1, 2]


def test_a_run_leaves_the_process_as_it_was(configure):
    state, threads = torch.get_rng_state(), torch.get_num_threads()
    run(configure("lora", threads=2))
    assert torch.equal(torch.get_rng_state(), state)
    assert torch.get_num_threads() == threads


def test_dropout_is_seeded(configure):
    from fewshot_bench.config import LoraOptions

    config = configure("lora", lora=LoraOptions(dropout=0.5))
    assert run(config).train_info.loss == run(config).train_info.loss
    assert run(config).train_info.loss != run(configure("lora")).train_info.loss


@pytest.mark.parametrize(
    ("choices", "message"),
    [
        ({"method": "laro"}, "unknown method 'laro': did you mean 'lora'?"),
        ({"backbone": "tiny-vitt"}, "unknown backbone 'tiny-vitt': did you mean 'tiny-vit'?"),
        ({"dataset": "digitz"}, "unknown dataset 'digitz'"),
        ({"method": "zero_shot"}, "'zero_shot' needs a backbone of family 'clip'"),
        ({"backbone": "tiny-bert"}, "holds image data, but backbone 'tiny-bert' reads text"),
        ({"shots": 99}, "fewer than shots=99"),
        ({"protocol": "nestd"}, "unknown protocol 'nestd'"),
        ({"device": "cuda:77"}, "device 'cuda:77' is not here"),
        ({"device": "mps"}, "device 'mps' is not supported"),
        ({"device": "gpu"}, "unknown device 'gpu'"),
    ],
)
def test_what_does_not_fit_is_refused_with_the_fix(configure, images, choices, message):
    table = {**configure("linear_probe").to_dict(), "dataset": str(images), **choices}
    with pytest.raises(ValueError, match=re.escape(message)):
        run(RunConfig.from_dict(table))


def test_text_on_an_image_backbone_is_refused(configure, texts):
    with pytest.raises(ValueError, match="holds text data, but backbone 'tiny-vit' reads image"):
        run(configure("full", dataset=str(texts)))


def test_saving_never_overwrites_what_is_not_ours(configure, tmp_path):
    (tmp_path / "thesis.txt").write_text("ten years of work")
    with pytest.raises(ValueError, match="holds other files"):
        run(configure("linear_probe"), save=tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.txt"]
    with pytest.raises(ValueError, match="it is a file"):
        run(configure("linear_probe"), save=tmp_path / "thesis.txt")


def test_an_earlier_save_is_replaced(configure, tmp_path):
    folder = tmp_path / "saved"
    run(configure("lora"), save=folder)
    run(configure("full"), save=folder)
    assert sorted(path.name for path in folder.iterdir()) == ["model.safetensors", "run.json"]
    assert adapters.evaluate_saved(folder).count


@pytest.mark.parametrize("method", ["full", "lora"])
def test_a_save_on_a_full_disk_keeps_the_earlier_one(configure, tmp_path, full_disk, method):
    folder = tmp_path / "saved"
    before = run(configure(method), save=folder)
    with full_disk(10_000), pytest.raises(OSError, match=r"cannot write .*saved: .*nothing"):
        run(configure(method, seed=1), save=folder)
    assert [path.name for path in tmp_path.iterdir()] == ["saved"]
    assert adapters.evaluate_saved(folder).correct == before.train_info.correct


def test_a_save_from_another_machine_can_be_moved_to_a_device_that_is_here(configure, tmp_path):
    folder = tmp_path / "saved"
    saved = run(configure("lora"), save=folder)
    record = json.loads((folder / "run.json").read_text())
    record["config"]["device"] = "cuda:77"
    (folder / "run.json").write_text(json.dumps(record))
    with pytest.raises(ValueError, match="--device cpu"):
        adapters.evaluate_saved(folder)
    assert adapters.evaluate_saved(folder, device="cpu").correct == saved.train_info.correct


def test_a_save_is_found_from_another_folder(configure, images, tmp_path, monkeypatch):
    monkeypatch.chdir(images.parent)
    saved = run(configure("linear_probe", dataset=images.name), save=tmp_path / "saved")
    monkeypatch.chdir(tmp_path)
    assert adapters.evaluate_saved("saved").correct == saved.train_info.correct


def test_a_save_is_evaluated_on_other_data_of_the_same_classes(configure, images, texts, tmp_path):
    folder = tmp_path / "saved"
    run(configure("linear_probe"), save=folder)
    assert adapters.evaluate_saved(folder, dataset=str(images)).count
    other = tmp_path / "other"
    other.symlink_to(images / "circle")
    with pytest.raises(ValueError, match=r"text|reads image"):
        adapters.evaluate_saved(folder, dataset=str(texts))


@pytest.mark.parametrize("method", ["full", "lora"])
def test_a_damaged_save_is_refused_by_name(configure, tmp_path, method):
    folder = tmp_path / "saved"
    with pytest.raises(FileNotFoundError, match="holds no saved run"):
        adapters.evaluate_saved(folder)
    run(configure(method), save=folder)
    (weights,) = folder.glob("*.safetensors")
    whole = weights.read_bytes()
    weights.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(ValueError, match="damaged"):
        adapters.evaluate_saved(folder)
    weights.unlink()
    with pytest.raises(FileNotFoundError, match=weights.name):
        adapters.evaluate_saved(folder)
    weights.write_bytes(whole)
    record = json.loads((folder / "run.json").read_text())
    (folder / "run.json").write_text(json.dumps({**record, "colour": "red"}))
    with pytest.raises(ValueError, match=r"run.json: unknown field 'colour'"):
        adapters.evaluate_saved(folder)


def test_weights_of_another_method_are_refused(configure, tmp_path):
    for method in ("full", "bias"):
        run(configure(method), save=tmp_path / method)
    (tmp_path / "bias" / "model.safetensors").replace(tmp_path / "full" / "model.safetensors")
    with pytest.raises(ValueError, match="does not belong to this model"):
        adapters.evaluate_saved(tmp_path / "full")


def test_methods_are_listed_under_their_own_names():
    assert list(METHODS) == [method.name for method in METHODS.values()]
    assert list(METHODS) == [
        "zero_shot", "linear_probe", "full", "bias", "lora", "so", "klora", "snell", *PEERS,
    ]  # fmt: skip
    assert [method.name for method in METHODS.values() if method.peer] == list(PEERS)


def test_other_data_needs_no_shots_to_be_tested_on(configure, images, tmp_path):
    run(configure("linear_probe", shots=4), save=tmp_path / "saved")
    for folder in images.iterdir():
        (tmp_path / "few" / folder.name).mkdir(parents=True)
        for path in sorted(folder.iterdir())[:2]:
            shutil.copy(path, tmp_path / "few" / folder.name)
    assert adapters.evaluate_saved(tmp_path / "saved", dataset=str(tmp_path / "few")).count == 3
