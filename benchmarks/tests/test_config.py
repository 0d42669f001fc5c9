import dataclasses
import json
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fewshot_bench.config import (
    DEFAULT_RATES,
    LoraOptions,
    RunConfig,
    SnellOptions,
    SOConfig,
    resolve,
    run_name,
)
from fewshot_bench.methods import METHODS
from fewshot_bench.seeds import derive

positive = st.floats(1e-12, 1e12)
text = st.text(min_size=1, max_size=30)
configs = st.builds(
    RunConfig,
    method=text,
    backbone=text,
    dataset=text,
    shots=st.integers(1, 10**6),
    seed=st.integers(0, 2**64),
    replace=st.booleans(),
    checkpoint=st.none() | text,
    text_column=st.none() | text,
    test_limit=st.none() | st.integers(1, 10**6),
    steps=st.integers(0, 10**6),
    lr=st.none() | positive,
    head_lr=st.none() | positive,
    weight_decay=st.floats(0, 10),
    schedule=st.sampled_from(["cosine", "constant"]),
    so=st.builds(SOConfig, density_ratio=st.floats(1e-9, 1), T=st.integers(1, 1000)),
    lora=st.builds(LoraOptions, r=st.integers(1, 512), dropout=st.floats(0, 0.99)),
    snell=st.builds(SnellOptions, r=st.integers(1, 512), sparsity=st.floats(0, 0.999)),
)


@given(configs)
def test_a_config_survives_json(config):
    assert RunConfig.from_dict(json.loads(json.dumps(config.to_dict()))) == config


@given(configs)
def test_a_run_name_is_one_safe_file_name(config):
    name = run_name(config)
    assert name == run_name(RunConfig.from_dict(config.to_dict()))
    assert "/" not in name
    assert not name.startswith((".", "-"))
    assert name.isascii()
    assert name.isprintable()
    assert len(name.encode()) < 250


@given(configs, configs)
def test_only_equal_configs_share_a_name(one, other):
    assert (run_name(one) == run_name(other)) == (resolve(one) == resolve(other))


fields = [f.name for f in dataclasses.fields(RunConfig)]


@given(st.sampled_from(fields), st.integers(0, 30))
def test_a_misspelt_field_is_refused_and_its_name_offered(name, position):
    wrong = name[: position % len(name)] + "x" + name[position % len(name) :]
    with pytest.raises(ValueError, match="unknown field") as caught:
        RunConfig.from_dict({wrong: None})
    assert name in str(caught.value)


def test_the_closest_field_is_named_first():
    with pytest.raises(ValueError, match=r"'densty_ratio': did you mean 'density_ratio'\?"):
        RunConfig.from_dict({"so": {"densty_ratio": 0.1}})


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=5,
)


@given(st.dictionaries(st.sampled_from(fields), json_values))
def test_any_table_is_read_or_refused_with_a_message(table):
    refusal, config = None, None
    try:
        config = RunConfig.from_dict(table)
    except ValueError as error:
        refusal = str(error)
    assert (refusal is None) != (config is None)
    assert refusal is None or any(name in refusal for name in table)


@pytest.mark.parametrize(
    ("table", "message"),
    [
        ({"shots": "4"}, "config.shots must be a whole number, got str '4'"),
        ({"shots": True}, "config.shots must be a whole number, got bool True"),
        ({"shots": 0}, "shots must be at least 1, got 0"),
        ({"lr": math.nan}, "config.lr must be a finite number"),
        ({"lr": -1.0}, "lr must be a positive number, at most .*, got -1.0"),
        ({"lr": 10**400}, "config.lr is too large"),
        ({"schedule": "cos"}, "config.schedule must be one of 'cosine', 'constant', got 'cos'"),
        ({"so": 3}, "config.so must be a table of fields"),
        ({"so": {"density_ratio": 0.0}}, "so.density_ratio must be in"),
        ({"so": {"betas": [0.9]}}, "config.so.betas must have 2 entries, got 1"),
        ({"snell": {"sparsity": 1.0}}, "snell.sparsity must be in"),
        ({"method": None}, "config.method must be text"),
    ],
)
def test_a_bad_value_is_refused_by_name(table, message):
    with pytest.raises(ValueError, match=message):
        RunConfig.from_dict(table)


def test_every_method_has_default_rates():
    assert set(DEFAULT_RATES) == set(METHODS)
    assert resolve(RunConfig(method="lora", lr=0.5)).lr == 0.5
    assert resolve(RunConfig(method="lora")).lr == DEFAULT_RATES["lora"][0]


def test_left_out_rates_name_the_same_run_as_the_defaults():
    lr, head_lr = DEFAULT_RATES["full"]
    explicit = RunConfig(method="full", lr=lr, head_lr=head_lr)
    assert run_name(RunConfig(method="full")) == run_name(explicit)


def test_seed_streams_are_independent_and_fit_every_library():
    streams = [value for seed in range(50) for value in dataclasses.astuple(derive(seed))]
    assert len(set(streams)) == len(streams)
    assert all(0 <= value < 2**32 for value in streams)
