"""What kernels take of a GPU, from the code that is made for it; and what they cost by counting."""

from __future__ import annotations

import dataclasses
import re
from pathlib import Path

import pytest
from click.testing import CliRunner

pytest.importorskip("triton")

from edgespec.cli.kernels import kernels
from edgespec.core.errors import EdgespecError
from edgespec.engines.model_folder import PAIR_FOLDER
from edgespec.kernels import budgets, cost_limits
from edgespec.kernels.budgets import SHARED_BYTES, Resources
from edgespec.kernels.cost_limits import MOST_EXITS_SHARE, Limit, limits
from edgespec.kernels.costs import GPUS, STREAMED, Gpu, costs
from edgespec.kernels.forward_costs import LLAMA_2_7B, Shape, attention_bytes, forward_cost
from edgespec.kernels.variants import VARIANTS, Variant, divided, for_architectures, tail_share

LOOKED_AT = [
    ("verify_scan", "bf16-plain", 80),
    ("verify_round", "5", 86),
    ("verify_choose", "bf16-odd", 80),
    ("verify_choose", "bf16", 90),
    ("exit_head_rows", "bf16", 87),
    ("exit_head_parts", "bf16-16-64", 90),
    ("exit_head_parts", "fp32-64-64", 89),
    ("exit_head_parts", "fp32-32-32", 90),
    ("exit_head_parts", "bf16-i8-64-64", 86),
    ("exit_head_finish", "hint", 80),
    ("tree_attention_parts", "bf16-128-64", 86),
    ("tree_attention_parts", "fp32-256-32", 89),
    ("tree_attention_parts", "fp16-64-16-odd", 80),
    ("tree_attention_parts", "bf16-f8-128-64", 90),
    ("tree_attention_parts", "fp16-f8-64-16", 89),
    ("tree_attention_join", "bf16-64", 80),
    ("residual_norm", "bf16-8192", 90),
    ("rotary_write", "bf16-128", 87),
    ("rotary_write", "bf16-f8-128", 89),
    ("gated", "bf16", 80),
]
"""A kernel of each kind, and each architecture; `edgespec kernels budgets` looks at all of them."""


def variant(kernel: str, name: str) -> Variant:
    return next(one for one in VARIANTS if (one.kernel, one.name) == (kernel, name))


@pytest.mark.parametrize(("kernel", "name", "architecture"), LOOKED_AT)
def test_a_kernel_keeps_its_budgets(kernel: str, name: str, architecture: int) -> None:
    assert list(Resources.of(variant(kernel, name), architecture).broken()) == []


def test_8_bit_floats_are_compiled_for_gpus_that_read_them_alone() -> None:
    chosen = [variant("rotary_write", name) for name in ("bf16-128", "bf16-f8-128")]
    found = [(one.name, on) for one, on in for_architectures(chosen, [80, 87, 89, 90])]
    assert found == [("bf16-128", on) for on in (80, 87, 89, 90)] + [("bf16-f8-128", on) for on in (89, 90)]


def test_a_budget_that_is_broken_is_named() -> None:
    fine = Resources(variant("exit_head_parts", "bf16-16-64"), 86, 128, 0, 30_000, 20)
    assert list(fine.broken()) == [] and fine.blocks == 3
    whole = Resources(variant("exit_head_parts", "fp32-32-32"), 86, 128, 0, 30_000, 0)
    assert list(whole.broken()) == ["it never reads 16 bytes at once"]
    changes = {
        "spills 8 bytes": {"spilled_bytes": 8},
        "of shared memory": {"shared_bytes": SHARED_BYTES[86] + 1},
        "never reads 16 bytes": {"wide_loads": 0},
    }
    for sentence, change in changes.items():
        assert sentence in " ".join(dataclasses.replace(fine, **change).broken())


def test_the_command_ends_with_an_error_where_a_budget_is_broken(monkeypatch: pytest.MonkeyPatch) -> None:
    one = variant("exit_head_rows", "bf16")
    monkeypatch.setattr(budgets, "SHARED_BYTES", {80: 8})
    done = CliRunner().invoke(kernels, ["budgets", "--archs", "80", "--only", f"{one.kernel} {one.name}"])
    assert "of shared memory of 8" in done.output and "2 budgets are broken" in str(done.exception)
    unknown = CliRunner().invoke(kernels, ["budgets", "--archs", "75"])
    assert "there are no budgets for [75]" in str(unknown.exception)


@pytest.mark.parametrize("limit", list(limits()), ids=lambda one: one.what)
def test_what_is_counted_stays_within_its_limit_on_an_h100(limit: Limit) -> None:
    assert limit.holds, limit


def test_targets_that_are_missed_are_those_that_the_guide_names() -> None:
    missed = {one.what: f"{one.missed_by:.1%}".replace("%", " %") for one in limits() if one.missed_by}
    assert len(missed) == len(cost_limits.MISSED)
    assert all(one.at_most is None for one in limits() if not one.missed_by)
    guide = (Path(__file__).parent.parent / "docs" / "kernels.md").read_text(encoding="utf-8")
    for what, by in missed.items():
        assert f"{what}: {by}" in guide


@pytest.mark.parametrize("gpu", GPUS, ids=lambda gpu: gpu.name)
def test_nothing_is_counted_as_read_faster_than_reading_reaches(gpu: Gpu) -> None:
    forward = forward_cost(gpu, LLAMA_2_7B, 8, 256)
    for floor_us, expected_us in [
        (forward.floor_us, forward.expected_us),
        *((one.floor_us, one.expected_us) for one in costs(gpu, 8, 128_256, 4096)),
    ]:
        assert expected_us > floor_us / STREAMED


@pytest.mark.parametrize("vocabulary", [32_000, 128_256])
def test_what_verify_launches_and_reads(vocabulary: int) -> None:
    verify = [one for one in costs(GPUS[0], 8, vocabulary, 4096) if one.what.startswith("verify")]
    assert [(one.launches, one.passes) for one in verify] == [(3, 2), (6, 5), (8, 5), (11, 8)]


@pytest.mark.parametrize("slots", [256, 2048, 8192])
def test_what_a_forward_of_7_billion_weights_reads(slots: int) -> None:
    cost = forward_cost(GPUS[0], LLAMA_2_7B, 8, slots)
    assert cost.floor_us == pytest.approx(3.95e3, rel=0.01)
    kept = 2 * 32 * 4096 * 2 * slots  # keys and values of every layer in 16 bits
    assert kept <= cost.kv_bytes < 1.3 * kept


def test_keys_and_values_of_8_bits_are_half_of_what_is_read() -> None:
    whole, half = (attention_bytes(GPUS[0], LLAMA_2_7B, 8, 2048, size)[0] for size in (2, 1))
    assert whole - half == 2 * 32 * 4096 * 2048  # what items pass on to the join stays
    costs = [forward_cost(GPUS[0], LLAMA_2_7B, 8, 2048, size) for size in (2, 1)]
    assert costs[1].kv_bytes == half and costs[1].expected_us < costs[0].expected_us


def test_three_exits_stay_below_their_limit_on_every_gpu_with_a_head_of_8_bits_alone() -> None:
    for gpu in GPUS:
        cost = forward_cost(gpu, LLAMA_2_7B, 8, 256)
        assert cost.exits_share(8) <= MOST_EXITS_SHARE < cost.exits_share(16), gpu.name


def test_attention_reads_keys_once_for_all_query_heads_that_share_them() -> None:
    grouped = dataclasses.replace(LLAMA_2_7B, kv_heads=8)
    whole, quarter = (attention_bytes(GPUS[0], shape, 8, 8192)[0] for shape in (LLAMA_2_7B, grouped))
    assert quarter < 0.4 * whole  # what items pass on to the join is not shared


def test_tiles_are_chosen_so_that_programs_end_together() -> None:
    for vocabulary in (32_000, 128_256, 151_936):
        for gpu in GPUS:
            tile, programs = divided(vocabulary, 2 * gpu.processors)
            assert tail_share(vocabulary, tile, 2 * gpu.processors) < 0.1, gpu.name
            assert programs == 2 * gpu.processors
    assert divided(100, 264) == (32, 4)


def test_the_command_prints_what_is_counted() -> None:
    printed = (
        CliRunner()
        .invoke(kernels, ["costs", "--target", str(PAIR_FOLDER / "target"), "--slots", "256"])
        .output
    )
    assert "counted, not measured" in printed
    assert len(re.findall(r"│ exit_head", printed)) == 2 * len(GPUS) + 4
    for limit in limits():
        assert re.search(rf"│ {re.escape(limit.what)} +│", printed), limit.what
    assert "a forward of target, 8 rows" in printed
    narrow = CliRunner().invoke(kernels, ["costs", "--slots", "2048", "--kv-dtype", "fp8"]).output
    assert re.search(r"│ H100 SXM +│ +2048 │ +\d+ │ +810 │", narrow)
    with pytest.raises(EdgespecError, match="--slots takes numbers"):
        CliRunner().invoke(kernels, ["costs", "--slots", "256;0"], catch_exceptions=False)


def test_the_command_ends_with_an_error_where_a_cost_is_above_its_limit(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(cost_limits, "LAUNCHES_A_LAYER", 13)
    done = CliRunner().invoke(kernels, ["costs", "--slots", "256"])
    assert "these cost more than they may: launches." in str(done.exception)


def test_a_config_of_another_kind_is_refused_by_name() -> None:
    with pytest.raises(EdgespecError, match="the config of rwkv does not say its 'num_attention_heads'"):
        Shape.of({"hidden_size": 8}, "rwkv")
