"""The kernels compile to machine code; test_triton.py runs this without the interpreter.

Needs no GPU: Triton brings its compiler and the assembler. The interpreter is more lenient than the
compiler, for instance with types that change in a loop.
"""

import re

import pytest
import triton
import triton.language as tl
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource

from so_optim.kernels.products import chunk_sums, partial_sums
from so_optim.kernels.sddmm import BLOCKS, REBUILDS
from so_optim.kernels.step import SLOTS, step_members

TARGETS = {"ampere": GPUTarget("cuda", 80, 32), "hopper": GPUTarget("cuda", 90, 32)}
NUMBERS = {"beta1", "rest1", "beta2", "rest2", "eps"}
SHORT = {"fp32": tl.float32, "bf16": tl.bfloat16, "fp16": tl.float16, "fp64": tl.float64}


@pytest.fixture(autouse=True)
def nothing_cached(tmp_path, monkeypatch):
    monkeypatch.setenv("TRITON_CACHE_DIR", str(tmp_path))


def compiled(kernel, target, pointers, constants, *, fused):
    """Machine code of a kernel; sizes are int32, `pointers` name the types they point to."""

    def type_of(name):
        if name in constants:
            return "constexpr"
        if name.endswith("_ptr"):
            return "*" + pointers.get(name, pointers["others"])
        return "fp32" if name in NUMBERS else "i32"

    assert set(constants) | (set(pointers) - {"others"}) <= set(kernel.arg_names)
    signature = {name: type_of(name) for name in kernel.arg_names}
    source = ASTSource(kernel, signature, constants)
    return triton.compile(source, target=target, options={"enable_fp_fusion": fused}).asm


@pytest.mark.parametrize("rebuild", REBUILDS)
def test_sampled_product(rebuild):
    sampled_product_compiles(rebuild, "fp32", "bf16", TARGETS["hopper"])


@pytest.mark.parametrize("target", TARGETS.values(), ids=TARGETS)
def test_sampled_product_of_half_operands(target):
    sampled_product_compiles("quick_gelu", "bf16", "fp32", target)


def sampled_product_compiles(rebuild, seen, then, target):
    norm = rebuild == "layernorm"
    blocks = {name: size for name, size in BLOCKS.items() if name.isupper()}
    types = {"wide": tl.float32, "kind": SHORT[seen], "then": SHORT[then]}
    constants = {"rebuild": rebuild, "has_gamma": norm, "has_beta": norm, **types, **blocks}
    pointers = {"others": seen, "part_ptr": "fp32", "rows_ptr": "i32", "cols_ptr": "i32"}
    code = compiled(partial_sums, target, pointers, constants, fused=True)
    assert len(code["cubin"])
    assert "ld.local" not in code["ptx"]


def test_sampled_product_in_float64():
    blocks = {name: size for name, size in BLOCKS.items() if name.isupper()}
    types = dict.fromkeys(("wide", "kind", "then"), tl.float64)
    constants = {"rebuild": "gelu", "has_gamma": False, "has_beta": False, **types, **blocks}
    pointers = {"others": "fp64", "rows_ptr": "i64", "cols_ptr": "i64"}
    assert compiled(partial_sums, TARGETS["hopper"], pointers, constants, fused=True)["cubin"]


@pytest.mark.parametrize("total", ["fp32", "fp64"])
def test_sum_of_chunks(total):
    blocks = {name: size for name, size in BLOCKS.items() if name.isupper()}
    assert compiled(chunk_sums, TARGETS["hopper"], {"others": total}, blocks, fused=True)["cubin"]


@pytest.mark.parametrize(
    ("weight", "prune_first", "target"),
    [("fp32", False, "ampere"), ("fp32", True, "hopper"), ("bf16", False, "hopper")],
)
def test_step(weight, prune_first, target):
    narrow = weight != "fp32"
    constants = {
        "prune_first": prune_first,
        "may_be_off": narrow,
        "narrow": narrow,
        "kind": SHORT[weight],
        "SLOTS": SLOTS,
    }
    indices = dict.fromkeys(("positions_ptr", "starts_ptr", "sizes_ptr"), "i64")
    numbers = dict.fromkeys(("corrections_ptr", "scale_ptr"), "fp64")
    pointers = {"others": "fp32", "weight_ptr": weight, "off_ptr": "i1", **indices, **numbers}
    code = compiled(step_members, TARGETS[target], pointers, constants, fused=False)
    assert len(code["cubin"])
    assert "ld.local" not in code["ptx"]
    # Rounded as torch rounds: neither division nor root is the fast approximation.
    assert re.search(r"div\.rn\.(ftz\.)?f32", code["ptx"])
    assert re.search(r"sqrt\.rn\.(ftz\.)?f32", code["ptx"])
    assert "approx" not in code["ptx"]
