"""A decoder layer's small steps in every backend beside their reference, and the CPU form beside transformers' modules,
bit for bit."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from kernel_backends import BACKENDS
from transformers.models.gemma2.modeling_gemma2 import Gemma2RMSNorm
from transformers.models.llama.modeling_llama import LlamaRMSNorm, apply_rotary_pos_emb

from edgespec.core.errors import EdgespecError
from edgespec.kernels import layer_reference
from edgespec.kernels.arguments import FLOAT8, rounded, widened
from edgespec.kernels.layer import gated, residual_norm, rotary_write
from edgespec.kernels.layer_data import HeadNorms, Norm

DTYPES = ["float32", "float16", "bfloat16"]
STEPS = {"float32": 2.0**-22, "float16": 2.0**-10, "bfloat16": 2.0**-7, "float64": 2.0**-51}
"""A unit in the last place of 1, at least: what a rounding to the other side changes."""


def normal(dtype: str, *size: int, seed: int = 0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed + sum(size))
    return torch.randn(size, generator=generator, dtype=torch.float64).to(getattr(torch, dtype))


def assert_near(got: Any, want: Any, dtype: str, steps: int = 4) -> None:
    torch.testing.assert_close(
        torch.as_tensor(got).double(),
        torch.as_tensor(want).double(),
        rtol=steps * STEPS[dtype],
        atol=steps * STEPS[dtype],
    )


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("form", ["first", "added", "added after a norm"])
@pytest.mark.parametrize("unit", [False, True])
def test_residual_norm_is_its_reference(form: str, unit: bool, dtype: str, backend: str) -> None:
    residual, norm = normal(dtype, 3, 41), Norm(1 + normal(dtype, 41) / 8, 1e-5, unit)
    added = None if form == "first" else normal(dtype, 3, 41, seed=1)
    post = normal(dtype, 41, seed=2) if form == "added after a norm" else None
    got = residual_norm(added, residual, norm, post=post, backend=backend)
    want = residual_norm(added, residual, norm, post=post, backend="reference")
    for one, other in zip(got, want, strict=True):
        assert_near(one, other, dtype, steps=8)


def rotary_inputs(dtype: str, pool: str | None = None) -> dict[str, Any]:
    """Four rows, six query heads, two key heads of width 20; slots anywhere in a pool of 64. pool: its type; None: the
    rows'."""
    angles = normal("float64", 4, 20)
    return {
        "qkv": normal(dtype, 4, 10 * 20),
        "cosines": angles.cos().to(getattr(torch, dtype)),
        "sines": angles.sin().to(getattr(torch, dtype)),
        "slots": torch.tensor([63, 0, 17, 5]),
        "keys": normal(pool or dtype, 2, 64, 20, seed=3),
        "values": normal(pool or dtype, 2, 64, 20, seed=4),
    }


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("norms", ["none", "plain", "unit"])
def test_rotary_write_is_its_reference_and_leaves_other_slots(norms: str, dtype: str, backend: str) -> None:
    given = rotary_inputs(dtype)
    weights = normal(dtype, 20, seed=5), normal(dtype, 20, seed=6)
    heads = None if norms == "none" else HeadNorms(*weights, norms == "unit", 1e-6)
    before = given["keys"].clone(), given["values"].clone()
    query = rotary_write(**given, norms=heads, backend=backend)
    want = layer_reference.rotary_write(given["qkv"], given["cosines"], given["sines"], given["keys"], heads)
    assert_near(query, want[0], dtype, steps=8)
    slots = given["slots"]
    others = torch.tensor([slot for slot in range(64) if slot not in slots.tolist()])
    for pool, old, rows in zip((given["keys"], given["values"]), before, want[1:], strict=True):
        assert_near(pool[:, slots].transpose(0, 1), rows, dtype, steps=8)
        assert torch.equal(pool[:, others], old[:, others])


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("norms", [False, True])
def test_a_pool_of_8_bit_floats_holds_what_another_holds_rounded(
    norms: bool, dtype: str, backend: str
) -> None:
    heads = HeadNorms(normal(dtype, 20, seed=5), normal(dtype, 20, seed=6), False, 1e-6) if norms else None
    wide, narrow = rotary_inputs(dtype), rotary_inputs(dtype, FLOAT8)
    before = {name: widened(narrow[name]).copy() for name in ("keys", "values")}
    queries = [rotary_write(**given, norms=heads, backend=backend) for given in (wide, narrow)]
    assert torch.equal(*queries)
    written = np.isin(np.arange(64), wide["slots"])
    for name, old in before.items():
        want = np.where(written[:, None], rounded(widened(wide[name]), FLOAT8), old)
        assert (widened(narrow[name]) == want).all()


NEAREST = {
    0.0: 0.0, -0.75: -0.75, 1.0624: 1.0, 1.0625: 1.0, 1.0626: 1.125, 1.1875: 1.25, -1.95: -2.0, 17.0: 16.0,
    2.0**-6: 2.0**-6, 2.0**-7: 2.0**-7, 1.5 * 2.0**-9: 2.0**-8, 2.0**-10: 0.0, 1.1 * 2.0**-10: 2.0**-9, 1e-30: 0.0,
    431.0: 416.0, 433.0: 448.0, 448.0: 448.0, 463.0: 448.0, 470.0: 448.0, -1e30: -448.0, float("inf"): 448.0,
}  # fmt: skip
"""Ties go to the even mantissa; what is beyond the largest stays the largest."""


@pytest.mark.parametrize("backend", ["reference", *BACKENDS])
def test_8_bit_floats_are_rounded_to_nearest_and_never_overflow(backend: str) -> None:
    given = rotary_inputs("float32", FLOAT8)
    given["qkv"][0, -len(NEAREST) :] = torch.tensor([*NEAREST])
    if backend == "reference":
        arguments = given["qkv"], given["cosines"], given["sines"], given["keys"], None
        values = torch.as_tensor(layer_reference.rotary_write(*arguments)[2])
    else:
        rotary_write(**given, backend=backend)
        values = given["values"][:, given["slots"]].transpose(0, 1).float()
    assert values[0].flatten()[-len(NEAREST) :].tolist() == [*NEAREST.values()]


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("gelu", [False, True])
def test_gated_is_its_reference(gelu: bool, dtype: str, backend: str) -> None:
    gate_up = 3 * normal(dtype, 3, 2 * 1100)
    got = gated(gate_up, gelu=gelu, backend=backend)
    assert_near(got, gated(gate_up, gelu=gelu, backend="reference"), dtype, steps=16)


# The CPU form and transformers' modules


@pytest.mark.parametrize("dtype", [*DTYPES, "float64"])
@pytest.mark.parametrize(("module", "unit"), [(LlamaRMSNorm, False), (Gemma2RMSNorm, True)])
def test_norms_are_the_modules_bits(module: Any, unit: bool, dtype: str) -> None:
    own = module(41, eps=1e-5).to(getattr(torch, dtype))
    own.weight.data = normal(dtype, 41)
    residual, added = normal(dtype, 3, 41), normal(dtype, 3, 41, seed=1)
    norm = Norm(own.weight.data, 1e-5, unit)
    summed, normed = residual_norm(added, residual, norm, post=own.weight.data, backend="cpu")
    assert torch.equal(summed, residual + own(added)) and torch.equal(normed, own(summed))


@pytest.mark.parametrize("dtype", [*DTYPES, "float64"])
def test_rotations_are_the_modules_bits(dtype: str) -> None:
    given = rotary_inputs(dtype)
    query = rotary_write(**given, backend="cpu")
    heads = given["qkv"].view(1, 4, 10, 20).transpose(1, 2)
    q, k = apply_rotary_pos_emb(heads[:, :6], heads[:, 6:8], given["cosines"][None], given["sines"][None])
    assert torch.equal(query, q[0].transpose(0, 1)) and torch.equal(given["keys"][:, given["slots"]], k[0])
    assert torch.equal(given["values"][:, given["slots"]], heads[0, 8:])


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (
            lambda: residual_norm(None, torch.zeros(2, 3), Norm(torch.ones(4), 0.1)),
            "the norm's weight must be",
        ),
        (
            lambda: residual_norm(torch.zeros(2, 4), torch.zeros(2, 3), Norm(torch.ones(3), 0.1)),
            "added must be",
        ),
        (lambda: gated(torch.zeros(2, 3)), "gate_up's width must be even, not 3"),
        (lambda: rotary_write(**{**rotary_inputs("float32"), "qkv": torch.zeros(4, 90)}), "qkv must be"),
        (lambda: rotary_write(**{**rotary_inputs("float32"), "slots": torch.zeros(3)}), "slots must be"),
        (
            lambda: rotary_write(**{**rotary_inputs("float32"), "keys": normal(FLOAT8, 2, 64, 20)}),
            "values must be float8_e4m3fn, not float32",
        ),
    ],
)
def test_what_does_not_fit_is_refused_by_name(call: Any, message: str) -> None:
    with pytest.raises(EdgespecError, match=message):
        call()
