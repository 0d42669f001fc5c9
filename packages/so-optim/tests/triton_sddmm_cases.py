"""Cases of the sampled product; test_triton.py runs them with TRITON_INTERPRET=1."""

import pytest
import torch
from hypothesis import Phase, given, settings
from hypothesis import strategies as st
from torch.nn import functional as F

from so_optim.kernels.sddmm import BLOCKS, REBUILDS, available, sampled_product_triton
from so_optim.kernels.sddmm import sampled_product_op as op

# Where exp overflows to infinity, 1 / (1 + infinity) is the 0 that is meant; numpy warns.
pytestmark = pytest.mark.filterwarnings("ignore:.*overflow encountered in exp:RuntimeWarning")

ENTRIES, TOKENS = BLOCKS["ENTRIES"], BLOCKS["TOKENS"]
ACTIVATIONS = {
    "identity": lambda x: x,
    "gelu": F.gelu,
    "gelu_tanh": lambda x: F.gelu(x, approximate="tanh"),
    "quick_gelu": lambda x: x * torch.sigmoid(1.702 * x),
    "silu": F.silu,
}
FLOATS = [torch.float16, torch.bfloat16, torch.float32, torch.float64]
PARITY = {torch.float32: 1e-6, torch.float64: 1e-12}


def problem(n, rows, cols, k, *, seed=0, dtype=torch.float32, index=torch.int64):
    rng = torch.Generator().manual_seed(seed)
    dy = torch.randn(n, rows, generator=rng, dtype=torch.float64).to(dtype)
    x = torch.randn(n, cols, generator=rng, dtype=torch.float64).to(dtype)
    flat = torch.randint(rows * cols, (k,), generator=rng).sort().values
    return dy, x, (flat // cols).to(index), (flat % cols).to(index)


def statistics(x, eps=1e-5):
    wide = x.double()
    return wide.mean(1), (wide.var(1, unbiased=False) + eps).rsqrt()


def assert_close(found, dy, inputs, rows, cols):
    """Relative to the sum of |terms|, which is what rounding errors of a sum are relative to."""
    terms = dy.double()[:, rows] * inputs.double()[:, cols]
    error = (found.double() - terms.sum(0)).abs()
    assert found.shape == rows.shape
    assert (error <= PARITY[found.dtype] * terms.abs().sum(0)).all()


@given(
    n=st.sampled_from([1, 2, TOKENS - 1, TOKENS, TOKENS + 1, 3 * TOKENS + 5]),
    k=st.sampled_from([1, 2, ENTRIES - 1, ENTRIES, ENTRIES + 1, 2 * ENTRIES + 7]),
    rows=st.integers(1, 20),
    cols=st.integers(1, 20),
    rebuild=st.sampled_from(sorted(ACTIVATIONS)),
    dtype=st.sampled_from([torch.float32, torch.float64]),
    index=st.sampled_from([torch.int32, torch.int64]),
    seed=st.integers(0, 2**31),
)
# Shrinking would take minutes here.
@settings(max_examples=50, deadline=None, derandomize=True, phases=[Phase.explicit, Phase.generate])
def test_equals_the_plain_product(n, k, rows, cols, rebuild, dtype, index, seed):
    dy, x, i, j = problem(n, rows, cols, k, seed=seed, dtype=dtype, index=index)
    found = sampled_product_triton(dy, x, i, j, rebuild=rebuild)
    assert found.dtype == dtype
    # The twin's activation in float64: GELU's tail has no relative precision in float32.
    inputs = ACTIVATIONS[rebuild](x.double())
    terms = dy.double()[:, i] * x.double()[:, j]
    error = (found.double() - (dy.double()[:, i] * inputs[:, j]).sum(0)).abs()
    assert (error <= PARITY[dtype] * terms.abs().sum(0)).all()


@pytest.mark.parametrize("dtype", FLOATS)
def test_half_operands_are_summed_in_float32(dtype):
    dy, x, i, j = problem(300, 7, 9, 150, dtype=dtype)
    found = sampled_product_triton(dy, x, i, j)
    assert found.dtype == (torch.float64 if dtype == torch.float64 else torch.float32)
    assert_close(found, dy, x, i, j)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("affine", ["none", "gamma", "beta", "both"])
def test_layernorm_is_rebuilt(dtype, affine):
    dy, x, i, j = problem(2 * TOKENS + 3, 6, 40, ENTRIES + 9, dtype=dtype)
    x = 3 * x + 2
    mean, rstd = (s.to(dtype)[:, None] for s in statistics(x))  # shaped as torch keeps them
    gamma = torch.linspace(0.5, 2, 40, dtype=dtype) if affine in ("gamma", "both") else None
    beta = torch.linspace(-1, 1, 40, dtype=dtype) if affine in ("beta", "both") else None
    given = {"mean": mean, "rstd": rstd, "gamma": gamma, "beta": beta}
    found = sampled_product_triton(dy, x, i, j, rebuild="layernorm", **given)
    wide = {name: None if t is None else t.double() for name, t in given.items()}
    inputs = (x.double() - wide["mean"]) * wide["rstd"]
    inputs = inputs if gamma is None else inputs * wide["gamma"]
    assert_close(found, dy, inputs if beta is None else inputs + wide["beta"], i, j)


def test_layernorm_statistics_are_torchs_own():
    dy, x, i, j = problem(21, 6, 40, 33)
    gamma, beta = torch.linspace(0.5, 2, 40), torch.linspace(-1, 1, 40)
    normal, mean, rstd = torch.native_layer_norm(x, [40], gamma, beta, 1e-5)
    affine = {"gamma": gamma, "beta": beta}
    found = sampled_product_triton(dy, x, i, j, rebuild="layernorm", mean=mean, rstd=rstd, **affine)
    assert_close(found, dy, normal, i, j)


def rebuilt_values(x, rebuild, **given):
    """F(x) itself: one token whose gradient is 1."""
    j = torch.arange(x.numel())
    ones = torch.ones(1, 1, dtype=torch.float32)
    return sampled_product_triton(ones, x[None], j * 0, j, rebuild=rebuild, **given)


def assert_rounded_alike(found, forward, x, unit):
    """Equal but for values on an edge, which a last bit of exp or erf tips over by one unit."""
    # GELU's 1 + erf cancels on the far left: there float32 has no bits to agree on.
    tail = 2**-21 * x.abs()
    assert (found != forward)[x > -2].float().mean() < 2e-3
    assert ((found - forward).abs() <= unit * forward.abs() + tail).all()


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("rebuild", sorted(ACTIVATIONS))
def test_rounds_as_the_forward_did_at_every_half_number(rebuild, dtype, monkeypatch):
    monkeypatch.setitem(BLOCKS, "ENTRIES", 4096)  # the interpreter is slow by the program
    every = torch.arange(-(2**15), 2**15, dtype=torch.int32).to(torch.int16).view(dtype)
    every = every[(every.abs() < 30) & (every.abs() > 1e-4)]
    forward = ACTIVATIONS[rebuild](every).float()
    found = rebuilt_values(every, rebuild)
    assert torch.equal(found, found.to(dtype).float())
    assert_rounded_alike(found, forward, every.float(), torch.finfo(dtype).eps)


@pytest.mark.parametrize("rebuild", sorted(ACTIVATIONS))
@pytest.mark.parametrize("autocast", [torch.bfloat16, torch.float16])
def test_rounds_as_autocast_did(rebuild, autocast, monkeypatch):
    monkeypatch.setitem(BLOCKS, "ENTRIES", 4096)
    x = torch.linspace(-4, 4, 4001)
    forward = ACTIVATIONS[rebuild](x).to(autocast).float()
    found = rebuilt_values(x, rebuild, dtype=autocast)
    assert torch.equal(found, found.to(autocast).float())
    assert_rounded_alike(found, forward, x, torch.finfo(autocast).eps)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_ties_round_to_even_and_special_values_stay(dtype):
    x = torch.linspace(1, 2, 2**12 + 1)  # has every tie between neighbours of either type
    x = torch.cat([x, -x, torch.tensor([0.0, -0.0, torch.inf, -torch.inf])])
    assert torch.equal(rebuilt_values(x, "identity", dtype=dtype), x.to(dtype).float())
    assert rebuilt_values(torch.tensor([torch.nan]), "identity", dtype=dtype).isnan().all()


@pytest.mark.parametrize("bits", [0x7FC00000, 0x7FFFFFFF, -1])
def test_no_nan_is_lost(bits):
    x = torch.tensor([bits], dtype=torch.int32).view(torch.float32)
    assert rebuilt_values(x, "identity", dtype=torch.bfloat16).isnan().all()


def test_nonfinite_gradients_reach_their_entry_and_no_other():
    dy, x, i, j = problem(TOKENS + 3, 5, 5, 60)
    dy[4, 2] = torch.inf
    found = sampled_product_triton(dy, x, i, j)
    assert torch.equal(~found.isfinite(), i == 2)


def test_mixed_operands():
    dy, x, i, j = problem(19, 5, 6, 25)
    found = sampled_product_triton(dy.bfloat16(), x, i, j, dtype=torch.bfloat16)
    assert found.dtype == torch.float32
    assert_close(found, dy.bfloat16(), x.bfloat16(), i, j)


@pytest.mark.parametrize("layout", ["padded", "expanded", "transposed", "sliced"])
def test_any_layout(layout):
    dy, x, i, j = problem(TOKENS + 3, 6, 8, 40)
    n = len(x)
    if layout == "padded":
        dy, x = (torch.cat([t, t], 1)[:, : t.shape[1]] for t in (dy, x))
    elif layout == "expanded":
        dy, x = dy[:1].expand(n, -1), x[:1].expand(n, -1)
    elif layout == "transposed":
        dy, x = (t.T.contiguous().T for t in (dy, x))
    else:
        dy, x = torch.cat([dy, dy])[::2][:n], torch.cat([x, x])[3 : n + 3]
    ij = torch.stack([i, j], 1)
    assert_close(sampled_product_triton(dy, x, ij[:, 0], ij[:, 1]), dy, x, i, j)


@pytest.mark.parametrize("rebuild", sorted(ACTIVATIONS))
def test_two_calls_agree_to_the_last_bit(rebuild):
    dy, x, i, j = problem(150, 30, 40, 333)
    once = sampled_product_triton(dy, x, i, j, rebuild=rebuild)
    assert torch.equal(once, sampled_product_triton(dy, x, i, j, rebuild=rebuild))


def test_any_order_of_entries_gives_the_same_bits():
    dy, x, i, j = problem(100, 30, 40, 333)
    order = torch.randperm(333, generator=torch.Generator().manual_seed(1))
    once = sampled_product_triton(dy, x, i, j)
    assert torch.equal(once[order], sampled_product_triton(dy, x, i[order], j[order]))


@pytest.mark.parametrize(("n", "k"), [(0, 5), (5, 0), (0, 0)])
def test_nothing_to_sum(n, k):
    dy, x, i, j = problem(n, 3, 4, k)
    assert torch.equal(sampled_product_triton(dy, x, i, j), torch.zeros(k))


def test_the_operator_keeps_torchs_rules():
    dy, x, i, j = problem(9, 3, 4, 5)
    mean, rstd = (s.float() for s in statistics(x))
    plain = (dy, x, i, j, "gelu", None, None, None, None, torch.bfloat16)
    torch.library.opcheck(op, plain)
    torch.library.opcheck(op, (dy, x, i, j, "layernorm", mean, rstd, None, None, torch.float32))


def test_compiles_without_a_graph_break():
    dy, x, i, j = problem(9, 3, 4, 5)

    def backward(dy, x):
        return 2 * sampled_product_triton(dy, x, i, j, rebuild="gelu")

    compiled = torch.compile(backward, fullgraph=True, backend="aot_eager")
    assert torch.equal(compiled(dy, x), backward(dy, x))


def test_keeps_its_inputs_and_needs_no_gradient():
    dy, x, i, j = problem(9, 3, 4, 5)
    before = [t.clone() for t in (dy, x, i, j)]
    found = sampled_product_triton(dy.requires_grad_(), x.requires_grad_(), i, j)
    assert not found.requires_grad
    assert all(torch.equal(a, b) for a, b in zip((dy, x, i, j), before, strict=True))


def test_available_under_the_interpreter():
    assert available(torch.device("cpu"))
    assert not available(torch.device("meta"))


BAD = {
    "dy": {"dy": torch.ones(8, 3)},
    "x": {"x": torch.ones(9, 2, 2)},
    "rows": {"rows": torch.zeros(4, dtype=torch.int64)},
    "cols": {"cols": torch.zeros(5)},
    "complex": {"x": torch.ones(9, 4, dtype=torch.complex64)},
    "rebuild": {"rebuild": "relu"},
    "mean": {"rebuild": "layernorm", "rstd": torch.ones(9)},
    "rstd": {"rebuild": "layernorm", "mean": torch.ones(9), "rstd": torch.ones(8)},
    "gamma": {"gamma": torch.ones(4)},
    "beta": {
        "rebuild": "layernorm",
        "mean": torch.ones(9),
        "rstd": torch.ones(9),
        "beta": torch.ones(3),
    },
    "dtype": {"dtype": torch.int64},
}


@pytest.mark.parametrize("name", BAD)
def test_bad_input_is_named(name):
    dy, x, i, j = problem(9, 3, 4, 5)
    arguments = {"dy": dy, "x": x, "rows": i, "cols": j, **BAD[name]}
    with pytest.raises(ValueError, match=name):
        sampled_product_triton(**arguments)


def test_every_name_has_a_case():
    assert {*ACTIVATIONS, "layernorm"} == set(REBUILDS)
