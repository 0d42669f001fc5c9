"""SNELLA's allocator in a real Trainer, on a tiny BERT."""

import pytest
import torch

pytest.importorskip("peft")
pytest.importorskip("transformers")
pytest.importorskip("accelerate")

import transformers
from peft import PeftModel, get_peft_model

from snell_layers.peft import SnellConfig, SnellLinearAdapter
from snell_layers.peft.callback import SparsityCallback

pytestmark = [
    pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing`:FutureWarning"),
    pytest.mark.filterwarnings("ignore:.*pin_memory.*:UserWarning"),
]


def bert():
    config = transformers.BertConfig(
        vocab_size=50,
        hidden_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=24,
        max_position_embeddings=8,
        num_labels=2,
    )
    with torch.random.fork_rng():
        torch.manual_seed(7)
        return transformers.BertForSequenceClassification(config)


def adapted():
    return get_peft_model(bert(), SnellConfig(r=4, sparsity=0.1, modules_to_save=["classifier"]))


def dataset():
    generator = torch.Generator().manual_seed(0)
    tokens = torch.randint(1, 50, (24, 6), generator=generator)
    return [{"input_ids": row, "labels": int(row[0] > 25)} for row in tokens]


def trainer(model, callback, folder):
    arguments = transformers.TrainingArguments(
        output_dir=str(folder),
        num_train_epochs=4,
        per_device_train_batch_size=8,
        learning_rate=1e-2,
        save_strategy="steps",
        save_steps=5,
        report_to=[],
        disable_tqdm=True,
        use_cpu=True,
        logging_strategy="no",
        seed=3,
    )
    return transformers.Trainer(model, arguments, train_dataset=dataset(), callbacks=[callback])


def test_a_trainer_allocates_saves_and_resumes(tmp_path):
    with torch.random.fork_rng():
        whole, callback = adapted(), SparsityCallback(0.8, initial_sparsity=0.1, final_warmup=1)
        trainer(whole, callback, tmp_path).train()
    pattern = callback.pattern()
    assert len(pattern) == 6
    assert len(set(pattern.values())) > 1
    assert all(name in dict(bert().named_modules()) for name in pattern)
    layers = [m for m in whole.modules() if isinstance(m, SnellLinearAdapter)]
    entries = sum(int(m.get_delta_weight("default").count_nonzero()) for m in layers)
    assert entries == callback.allocator.budget(3)

    # Step 5 of 12 lies inside the second epoch.
    with torch.random.fork_rng():
        resumed, again = adapted(), SparsityCallback(0.8, initial_sparsity=0.1, final_warmup=1)
        trainer(resumed, again, tmp_path).train(str(tmp_path / "checkpoint-5"))
    assert again.pattern() == pattern
    ours, theirs = (dict(m.named_parameters()) for m in (resumed, whole))
    assert all(torch.equal(ours[name], theirs[name]) for name in theirs)

    whole.save_pretrained(tmp_path / "adapter")
    loaded = PeftModel.from_pretrained(bert(), tmp_path / "adapter")
    found = [m for m in loaded.modules() if isinstance(m, SnellLinearAdapter)]
    for one, other in zip(found, layers, strict=True):
        assert torch.equal(one.get_delta_weight("default"), other.get_delta_weight("default"))
    rebuilt = SnellConfig(r=4, target_modules=list(pattern), sparsity_pattern=pattern)
    assert [rebuilt.rule(name).sparsity for name in pattern] == list(pattern.values())


def test_a_checkpoint_without_the_allocator_is_refused(tmp_path):
    with torch.random.fork_rng():
        trainer(adapted(), SparsityCallback(0.8), tmp_path / "one").train()
        (tmp_path / "one" / "checkpoint-5" / "sparsity_allocator.pt").unlink()
        with pytest.raises(ValueError, match=r"has no sparsity_allocator\.pt: name the folder"):
            trainer(adapted(), SparsityCallback(0.8), tmp_path / "one").train(
                str(tmp_path / "one" / "checkpoint-5")
            )


def test_a_callback_needs_a_trainer():
    callback = SparsityCallback(0.8)
    assert callback.pattern() == {}
    with pytest.raises(ValueError, match="pass the callback to a Trainer"):
        callback.on_optimizer_step(None, None, None)
