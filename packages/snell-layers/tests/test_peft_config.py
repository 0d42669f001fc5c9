"""Configuration, registration, targets and the errors they can end in."""

import copy
import dataclasses
import json
import subprocess
import sys

import pytest
import torch
from torch import nn

pytest.importorskip("peft")

from peft import PeftConfig, PeftModel, get_peft_model
from peft.mapping import PEFT_TYPE_TO_TUNER_MAPPING
from peft.utils import PeftType

from snell_layers.peft import SnellConfig, SnellLinearAdapter, SnellModel, register

# PEFT 0.21 asks transformers 5.23 for a deprecated alias whenever it wraps one of its models.
pytestmark = pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing`:FutureWarning")


class Block(nn.Module):
    def __init__(self):
        super().__init__()
        self.qkv = nn.Linear(12, 36)
        self.proj = nn.Linear(12, 12)
        self.norm = nn.LayerNorm(12)
        self.conv = nn.Conv2d(3, 4, 1)
        self.depthwise = nn.Conv2d(4, 4, 3, groups=4)

    def forward(self, x):
        return self.norm(self.proj(self.qkv(x)[..., :12]))


@pytest.fixture
def model():
    return nn.Sequential(Block(), Block())


def adapted(model):
    return {n: m for n, m in model.named_modules() if isinstance(m, SnellLinearAdapter)}


def test_registration_is_known_to_peft_and_idempotent():
    register(SnellConfig, SnellModel)
    register(SnellConfig, SnellModel)
    kind = SnellConfig().peft_type
    assert kind is PeftType.SNELL is PeftType["SNELL"]
    assert kind.value == "SNELL" == PeftType("SNELL")
    assert list(PeftType).count(kind) == 1
    assert PEFT_TYPE_TO_TUNER_MAPPING[kind] is SnellModel


def test_the_package_alone_does_not_import_peft():
    check = "import sys, snell_layers; assert not {'peft', 'transformers'} & set(sys.modules)"
    subprocess.run([sys.executable, "-W", "error", "-c", check], check=True, timeout=120)


def test_a_config_survives_its_file(tmp_path):
    config = SnellConfig(
        r=4,
        sparsity=0.5,
        target_modules=["qkv", "proj"],
        exclude_modules=["1.qkv"],
        rank_pattern={"proj": 16},
        sparsity_pattern={"qkv": 0.0},
        kernel="linear",
        sparsifier="paper",
        fused_modules=(),
        seed=5,
    )
    config.save_pretrained(tmp_path)
    again = PeftConfig.from_pretrained(tmp_path)
    assert isinstance(again, SnellConfig)
    expected = dataclasses.asdict(config) | {"inference_mode": True}
    assert dataclasses.asdict(again) | {"inference_mode": True} == expected
    stored = json.loads((tmp_path / "adapter_config.json").read_text())
    assert stored["peft_type"] == "SNELL"


def test_patterns_set_rank_and_sparsity_of_single_modules(model):
    config = SnellConfig(
        target_modules=["qkv", "proj"],
        rank_pattern={"0.proj": 16},
        sparsity_pattern={r"1\..*": 0.25, "0.proj": 0},
    )
    rules = {
        name.removeprefix("base_model.model."): m.snell_factors["default"].rule
        for name, m in adapted(get_peft_model(model, config)).items()
    }
    found = {name: (rule.r, rule.sparsity) for name, rule in rules.items()}
    assert found == {
        "0.qkv": (8, 0.9),
        "0.proj": (16, 0),
        "1.qkv": (8, 0.25),
        "1.proj": (8, 0.25),
    }


def test_dropout_reaches_the_modules_but_for_those_in_the_pattern(model):
    config = SnellConfig(
        target_modules=["qkv", "proj"], dropout=0.1, drop_path=0.2, dropout_pattern={"proj": 0.0}
    )
    layers = adapted(get_peft_model(model, config))
    found = {
        name.removeprefix("base_model.model."): (factors.dropout, factors.drop_path)
        for name, layer in layers.items()
        for factors in layer.snell_factors.values()
    }
    with_, without = (0.1, 0.2), (0.0, 0.2)
    assert found == {"0.qkv": with_, "0.proj": without, "1.qkv": with_, "1.proj": without}


@pytest.mark.parametrize("kernel", ["sigmoid", "rbf", "mixed", "piecewise_linear"])
def test_an_adapter_with_trained_coefficients_is_saved_and_reloaded(model, tmp_path, kernel):
    targets = {"target_modules": ["qkv", "proj"]}
    config = SnellConfig(kernel=kernel, learn_coefficients=True, **targets)
    tuned = get_peft_model(copy.deepcopy(model), config)
    x = torch.rand(3, 12, generator=torch.Generator().manual_seed(0))
    optimizer = torch.optim.AdamW([p for p in tuned.parameters() if p.requires_grad], lr=0.1)
    tuned(x).square().sum().backward()
    optimizer.step()
    tuned.save_pretrained(tmp_path)
    loaded = PeftModel.from_pretrained(model, tmp_path, low_cpu_mem_usage=True)
    assert torch.equal(loaded(x), tuned(x))
    held = SnellConfig(kernel=kernel, learn_coefficients=False, **targets)
    with pytest.raises(ValueError, match=r"coefficients is .* in the file, missing in the model"):
        PeftModel.from_pretrained(nn.Sequential(Block(), Block()), tmp_path, config=held)


def test_only_fused_names_are_split(model):
    layers = adapted(get_peft_model(model, SnellConfig(target_modules=["qkv", "proj"])))
    pieces = {n.split(".")[-1]: m.snell_factors["default"].pieces for n, m in layers.items()}
    assert pieces == {"qkv": 3, "proj": 1}


@pytest.mark.parametrize(
    ("targets", "count"),
    [
        ("all-linear", 4),
        (r".*proj", 2),
        (["0.qkv"], 1),
        ([f"{block}.{leaf}" for block in (0, 1) for leaf in ("qkv", "proj")], 4),
    ],
)
def test_ways_to_name_targets(model, targets, count):
    assert len(adapted(get_peft_model(model, SnellConfig(target_modules=targets)))) == count


def test_many_exact_names_as_the_benchmark_passes_them():
    """PEFT shortens lists of twenty and more; seeds and patterns must not notice."""
    model = nn.Sequential(*[Block() for _ in range(12)])
    names = [n for n, m in model.named_modules() if isinstance(m, nn.Linear)]
    config = SnellConfig(target_modules=names, sparsity_pattern={"3.qkv": 0.5})
    layers = adapted(get_peft_model(model, config))
    assert [name.removeprefix("base_model.model.") for name in layers] == names
    assert layers["base_model.model.3.qkv"].snell_factors["default"].rule.sparsity == 0.5


def test_a_name_in_a_list_that_matches_nothing_is_pointed_out(model):
    config = SnellConfig(target_modules=["0.qvk", "proj"])
    with pytest.warns(UserWarning, match=r"\['0.qvk'\] match no module; did you mean '0.qkv'"):
        assert len(adapted(get_peft_model(model, config))) == 2


def test_a_second_adapter_never_looks_inside_the_first(model):
    tuned = get_peft_model(model, SnellConfig(target_modules=["proj"]))
    tuned.add_adapter("other", SnellConfig(target_modules=r".*proj.*"))
    layers = adapted(tuned)
    assert len(layers) == 2
    assert all(set(m.snell_factors) == {"default", "other"} for m in layers.values())


def test_excluded_modules_are_left_alone(model):
    config = SnellConfig(target_modules=["qkv", "proj"], exclude_modules=["1.qkv"])
    assert len(adapted(get_peft_model(model, config))) == 3


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"r": 7}, "r=7 cannot be cut into 2"),
        ({"r": 0}, "r must be a whole number"),
        ({"r": 1}, "r must be a whole number of at least 2, but is 1"),
        ({"r": 8.0}, "r must be a whole number of at least 2, but is 8.0"),
        ({"r": 6, "heads": 4}, "r=6 cannot be cut into 4 equal chunks: use a multiple of 4"),
        ({"heads": 3}, "heads must be an even number of at least 2, but is 3"),
        ({"sparsity": -0.1}, "sparsity must be at least 0 .* but is -0.1"),
        ({"sparsity": float("nan")}, "sparsity must be at least 0 .* but is nan"),
        ({"sparsity": 1}, "sparsity must be at least 0"),
        ({"kernel": "gauss"}, "unknown kernel 'gauss': known: piecewise_linear, linear, sigmoid"),
        ({"kernel": "linear", "learn_coefficients": True}, "kernel 'linear' has none"),
        ({"sparsifier": "relased"}, "did you mean 'released'"),
        ({"dropout": 1.0}, r"dropout must be at least 0 \(off\) and below 1, but is 1.0"),
        ({"drop_path": -0.1}, "drop_path must be at least 0 .* but is -0.1"),
        ({"dropout_pattern": {"proj": 2}}, "in the pattern for 'proj': dropout must be"),
        ({"init": "zero_updates"}, "did you mean 'zero_update'"),
        ({"rank_pattern": {"proj": 5}}, "in the pattern for 'proj': r=5 cannot be cut"),
        ({"sparsity_pattern": {"proj": 2}}, "in the pattern for 'proj': sparsity must be"),
    ],
)
def test_bad_options_are_named(options, message):
    with pytest.raises(ValueError, match=message):
        SnellConfig(**options)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            {"target_modules": ["query"]},
            r"\['query'\] match no module .* choose from conv, proj, qkv",
        ),
        ({"target_modules": r".*\.key"}, r"match no module of Sequential"),
        ({"target_modules": None}, "target_modules is not set, and Sequential has no defaults"),
        ({"target_modules": ["norm"]}, "module '0.norm' is a LayerNorm, which SNELL cannot adapt"),
        (
            {"target_modules": ["proj", "depthwise"]},
            "'0.depthwise' is a Conv2d, which has groups=4",
        ),
        ({"target_modules": ["proj"], "sparsity": 0.9999}, "module '0.proj': sparsity 0.9999"),
        ({"target_modules": "all-linear", "sparsity": 0.998}, "module '0.qkv': sparsity 0.998"),
        (
            {"target_modules": ["proj"], "fused_modules": ["proj"], "init": "zero_update"},
            "module '0.proj': init 'zero_update' cannot train at sparsity 0.9",
        ),
    ],
)
def test_targets_that_cannot_be_adapted_leave_the_model_whole(model, options, message):
    with pytest.raises(ValueError, match=message):
        get_peft_model(model, SnellConfig(**options))
    assert not adapted(model)


def test_the_projection_inside_packed_attention_is_refused():
    """`nn.MultiheadAttention` reads the weight and never calls the module: a dead adapter."""
    model = nn.TransformerEncoderLayer(12, 3, 24)
    with pytest.raises(
        ValueError,
        match=r"'self_attn\.out_proj' belongs to an nn.Multihead.*attention itself, 'self_attn'",
    ):
        get_peft_model(model, SnellConfig(target_modules="all-linear"))
    config = SnellConfig(target_modules="all-linear", exclude_modules=["out_proj"])
    assert len(adapted(get_peft_model(model, config))) == 2


def test_all_linear_leaves_saved_modules_alone():
    model = nn.ModuleDict({"body": nn.Linear(12, 12), "head": nn.Linear(12, 3)})
    config = SnellConfig(target_modules="all-linear", modules_to_save=["head"])
    tuned = get_peft_model(model, config)
    assert list(adapted(tuned)) == ["base_model.model.body"]


def test_saved_modules_without_a_weight_can_be_unloaded():
    """`"head"` also matches an inner `nn.Identity` of that name, as timm models have one."""
    model = nn.ModuleDict(
        {
            "body": nn.ModuleDict({"linear": nn.Linear(12, 12), "head": nn.Identity()}),
            "head": nn.Sequential(nn.Linear(12, 3)),
        }
    )
    config = SnellConfig(target_modules=["linear"], modules_to_save=["head"])
    plain = get_peft_model(model, config).merge_and_unload()
    assert type(plain["body"]["head"]) is nn.Identity
    assert type(plain["head"]) is nn.Sequential


def test_a_fused_module_that_cannot_be_cut_is_named():
    model = nn.Sequential(nn.Linear(6, 10))
    config = SnellConfig(target_modules=["0"], fused_modules=["0"])
    with pytest.raises(ValueError, match="module '0': a weight with 10 rows cannot be cut into 3"):
        get_peft_model(model, config)


def test_an_adapter_of_another_shape_is_refused(tmp_path):
    saved = get_peft_model(nn.Sequential(nn.Linear(12, 10)), SnellConfig(target_modules=["0"]))
    saved.save_pretrained(tmp_path)
    other = nn.Sequential(nn.Linear(12, 14))
    with pytest.raises(ValueError, match=r"outer.*\(1, 2, 10, 4\) in the file.*\(1, 2, 14, 4\)"):
        PeftModel.from_pretrained(other, tmp_path)


@pytest.mark.parametrize("name", ["kernel", "sparsifier", "r"])
def test_an_adapter_is_not_loaded_with_another_recipe(model, tmp_path, name):
    """`sigmoid` and `rbf` have factors of one shape, so shapes do not tell."""
    trained = {"kernel": "sigmoid", "sparsifier": "hard", "r": 4, "target_modules": ["proj"]}
    get_peft_model(copy.deepcopy(model), SnellConfig(**trained)).save_pretrained(tmp_path)
    other = {"kernel": "rbf", "sparsifier": "paper", "r": 8}
    messages = {
        "kernel": "trained with kernel 'sigmoid', but the configuration says 'rbf'",
        "sparsifier": "trained with sparsifier 'hard', but the configuration says 'paper'",
        "r": r"another r or kernel: .*inner is \(1, 1, 12, 4\) in the file, \(1, 1, 12, 8\) in",
    }
    config = SnellConfig(**{**trained, name: other[name]})
    with pytest.raises(ValueError, match=messages[name]):
        PeftModel.from_pretrained(copy.deepcopy(model), tmp_path, config=config)
    tuned = get_peft_model(model, config)
    with pytest.raises(ValueError, match=messages[name]):
        tuned.load_adapter(tmp_path, "default")  # as a Trainer does that resumes


def saved_config(folder, **changes):
    """Write an adapter and change its stored configuration."""
    get_peft_model(nn.Sequential(Block()), SnellConfig(target_modules=["proj"])).save_pretrained(
        folder
    )
    file = folder / "adapter_config.json"
    stored = json.loads(file.read_text())
    assert stored["format_version"] == 1
    file.write_text(json.dumps(stored | changes))


def test_an_adapter_of_a_newer_version_is_refused_before_a_field_is_lost(tmp_path):
    saved_config(tmp_path, format_version=2, gates="soft")
    message = r"format_version is 2, .* reads up to 1: .* upgrade snell-layers"
    for load in (
        lambda: PeftConfig.from_pretrained(tmp_path),
        lambda: SnellConfig.from_pretrained(tmp_path),
        lambda: PeftModel.from_pretrained(nn.Sequential(Block()), tmp_path),
        lambda: SnellConfig(format_version=3),
    ):
        with pytest.raises(ValueError, match=message.replace("2", "[23]", 1)):
            load()


def test_an_unknown_field_of_the_same_format_is_peft_s_to_warn_of(tmp_path):
    saved_config(tmp_path, comment="by hand")
    with pytest.warns(UserWarning, match="Unexpected keyword arguments .*comment"):
        assert PeftConfig.from_pretrained(tmp_path).r == 8


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_factors_that_are_not_finite_are_neither_loaded_nor_merged(model, tmp_path, value):
    tuned = get_peft_model(copy.deepcopy(model), SnellConfig(target_modules=["qkv", "proj"]))
    layer = tuned.base_model.model[1].proj
    with torch.no_grad():
        layer.snell_factors["default"].outer[0, 0, 3, 2] = value
    before = {name: w.clone() for name, w in tuned.named_parameters() if "base_layer" in name}
    for options in ({}, {"safe_merge": True}):
        with pytest.raises(ValueError, match=r"module '1\.proj': adapter 'default' has values"):
            tuned.merge_adapter(**options)
    after = dict(tuned.named_parameters())
    assert all(torch.equal(after[name], weight) for name, weight in before.items())
    tuned.save_pretrained(tmp_path)
    message = r"module '1\.proj': default\.outer of the saved adapter 'default' is not finite"
    for low_cpu_mem_usage in (False, True):
        with pytest.raises(ValueError, match=message):
            PeftModel.from_pretrained(
                copy.deepcopy(model), tmp_path, low_cpu_mem_usage=low_cpu_mem_usage
            )


def test_a_part_of_an_adapter_is_never_loaded_silently(model, tmp_path):
    from safetensors.torch import load_file, save_file

    get_peft_model(model, SnellConfig(target_modules=["proj"])).save_pretrained(tmp_path)
    file = tmp_path / "adapter_model.safetensors"
    tensors = load_file(file)
    save_file({k: v for k, v in tensors.items() if "1.proj" not in k}, file)
    fresh = nn.Sequential(Block(), Block())
    with pytest.raises(ValueError, match=r"1\.proj\..* is missing in the file, .*and 3 more"):
        PeftModel.from_pretrained(fresh, tmp_path)


def test_a_half_precision_model_keeps_float32_factors(model):
    x = torch.rand(2, 12, dtype=torch.bfloat16)
    for autocast in (True, False):
        tuned = get_peft_model(
            nn.Sequential(Block()).to(torch.bfloat16),
            SnellConfig(target_modules=["proj", "qkv"]),
            autocast_adapter_dtype=autocast,
        )
        types = {p.dtype for n, p in tuned.named_parameters() if "snell" in n}
        assert types == {torch.float32}
        assert tuned(x).dtype == torch.bfloat16
