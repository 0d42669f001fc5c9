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

from snell_layers.kernels import (
    triton_count,
    triton_fold,
    triton_merge,
    triton_parts,
    triton_select,
)
from snell_layers.kernels.triton_entries import FIXED

TARGETS = {"ampere": GPUTarget("cuda", 80, 32), "hopper": GPUTarget("cuda", 90, 32)}
TYPES = {"fp32": tl.float32, "bf16": tl.bfloat16, "fp16": tl.float16}
COUNTS = dict.fromkeys(("counts_ptr", "near_ptr", "binades_ptr", "second_ptr", "third_ptr"), "i32")


@pytest.fixture(autouse=True)
def nothing_cached(tmp_path, monkeypatch):
    monkeypatch.setenv("TRITON_CACHE_DIR", str(tmp_path))


def compiled(kernel, constants, pointers=(), *, target="hopper", **options):
    """PTX of a kernel that also assembles; sizes are int32, pointers float32 unless named."""
    pointers = dict(pointers)

    def type_of(name):
        if name in constants:
            return "constexpr"
        if name.endswith("_ptr"):
            return "*" + pointers.get(name, "fp32")
        return "fp32" if name == "factor" else "i32"

    signature = {name: type_of(name) for name in kernel.arg_names}
    assert set(constants) <= set(signature)
    source = ASTSource(kernel, signature, constants)
    found = triton.compile(source, target=TARGETS[target], options={**FIXED, **options})
    assert len(found.asm["cubin"])
    assert "ld.local" not in found.asm["ptx"]
    return found.asm["ptx"]


def assert_rounds_as_torch(ptx):
    """No operation on float32 but those that round once, to nearest, and keep subnormals.

    The roots are an exception: four fused operations after two guesses are what `sqrt.rn` and
    `rcp.rn` do; test_gpu.py compares them with these for every number.
    """
    found = re.findall(r"\b(?:add|sub|mul|div|fma|mad|sqrt|rsqrt|rcp)\.[.\w]*f32\b", ptx)
    guesses = {"rsqrt.approx.ftz.f32", "rcp.approx.ftz.f32"}
    roots = found.count("rsqrt.approx.ftz.f32")
    assert roots
    assert found.count("rcp.approx.ftz.f32") == roots
    assert found.count("fma.rn.f32") == 4 * roots
    assert set(found) - guesses == {"add.rn.f32", "sub.rn.f32", "mul.rn.f32", "fma.rn.f32"}


def case(blocks, heads, dims, trained, **constants):
    """Constants and options of a launch."""
    return {
        **{name: size for name, size in blocks.items() if name.isupper()},
        **{"heads": heads, "dims": dims, "trained": trained, **constants},
    }, {"num_warps": blocks["num_warps"]}


@pytest.mark.parametrize(
    ("gate", "kind", "heads", "dims", "trained", "target"),
    [
        ("released", "fp32", 2, 4, False, "ampere"),
        ("released", "fp32", 2, 4, False, "hopper"),
        ("paper", "bf16", 4, 8, True, "hopper"),
        ("hard", "fp16", 2, 16, False, "hopper"),
        ("none", "fp32", 1, 3, True, "hopper"),
    ],
)
def test_merge(gate, kind, heads, dims, trained, target):
    own = {"gate": gate, "known": False, "merging": kind == "fp32", "kind": TYPES[kind]}
    constants, options = case(triton_merge.BLOCKS, heads, dims, trained, **own)
    pointers = {"out_ptr": kind}
    kernel = triton_merge.merge_tiles
    assert_rounds_as_torch(compiled(kernel, constants, pointers, target=target, **options))


@pytest.mark.parametrize(
    ("heads", "dims", "trained", "target"),
    [(2, 4, False, "ampere"), (2, 4, False, "hopper"), (4, 16, True, "hopper")],
)
def test_first_pass(heads, dims, trained, target):
    constants, options = case(triton_select.BLOCKS, heads, dims, trained)
    kernel = triton_count.count_near
    assert_rounds_as_torch(compiled(kernel, constants, COUNTS, target=target, **options))


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("third", [None, False, True])
def test_other_passes(third, target):
    kernel = triton_count.count_binades if third is None else triton_count.count_fine
    constants = {"BLOCK": triton_select.BLOCK["BLOCK"]}
    if third is not None:
        constants["third"] = third
    compiled(kernel, constants, COUNTS, target=target, num_warps=4)


@pytest.mark.parametrize("target", TARGETS)
def test_settle(target):
    compiled(triton_count.settle, {}, COUNTS, target=target, num_warps=8)


@pytest.mark.parametrize(
    ("gate", "grad", "heads", "dims", "trained", "target"),
    [
        ("released", "fp32", 2, 4, False, "ampere"),
        ("released", "fp32", 2, 4, False, "hopper"),
        ("released", "bf16", 2, 4, False, "hopper"),
        ("paper", "bf16", 4, 4, True, "hopper"),
        ("none", "fp16", 1, 3, True, "hopper"),
        ("paper", "bf16", 4, 8, True, "hopper"),
    ],
)
def test_fold(gate, grad, heads, dims, trained, target):
    width = triton.next_power_of_2(heads * dims)
    narrow = width <= triton_fold.NARROW.value
    own = {"gate": gate, "replace": narrow, "merging": True, "kind": TYPES[grad], "WIDTH": width}
    sizes = triton_fold.blocks_for(width, 32 if grad == "fp32" else 16)
    constants, options = case(sizes, heads, dims, trained, **own)
    kernel = triton_fold.fold_tiles if narrow else triton_fold.fold_wide
    # Its mask must be the merge's, so it rounds alike.
    found = compiled(kernel, constants, {"grad_ptr": grad}, target=target, **options)
    assert_rounds_as_torch(found)


@pytest.mark.parametrize("target", TARGETS)
def test_sum_of_parts(target):
    sizes = {"heads": 2, "dims": 4, "WIDTH": 8, "POINTS": triton_fold.POINTS}
    compiled(triton_parts.add_parts, sizes, target=target, num_warps=1)
