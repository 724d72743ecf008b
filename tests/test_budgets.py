"""What kernels take of a GPU, from the code that is made for it; and what they cost by counting."""

from __future__ import annotations

import dataclasses
import re

import pytest
from click.testing import CliRunner

pytest.importorskip("triton")

from edgespec.cli.kernels import kernels
from edgespec.core.errors import EdgespecError
from edgespec.engines.model_folder import PAIR_FOLDER
from edgespec.kernels import budgets
from edgespec.kernels.budgets import SHARED_BYTES, Resources
from edgespec.kernels.costs import GPUS, costs
from edgespec.kernels.forward_costs import LLAMA_2_7B, Shape, attention_bytes, forward_cost
from edgespec.kernels.variants import VARIANTS, Variant, divided, tail_share

LOOKED_AT = [
    ("verify_scan", "bf16-plain", 80),
    ("verify_round", "5", 86),
    ("verify_choose", "bf16", 89),
    ("exit_head_rows", "bf16", 87),
    ("exit_head_parts", "bf16-16-64", 90),
    ("exit_head_parts", "fp32-64-64", 89),
    ("exit_head_finish", "hint", 80),
    ("tree_attention_parts", "bf16-128-64", 86),
    ("tree_attention_parts", "fp32-256-32", 89),
    ("tree_attention_join", "bf16-64", 80),
    ("residual_norm", "bf16-8192", 90),
    ("rotary_write", "bf16-128", 87),
    ("gated", "bf16", 80),
]
"""A kernel of each kind, and each architecture; `edgespec kernels budgets` looks at all of them."""


def variant(kernel: str, name: str) -> Variant:
    return next(one for one in VARIANTS if (one.kernel, one.name) == (kernel, name))


@pytest.mark.parametrize(("kernel", "name", "architecture"), LOOKED_AT)
def test_a_kernel_keeps_its_budgets(kernel: str, name: str, architecture: int) -> None:
    assert list(Resources.of(variant(kernel, name), architecture).broken()) == []


def test_a_budget_that_is_broken_is_named() -> None:
    fine = Resources(variant("exit_head_parts", "bf16-16-64"), 86, 128, 0, 30_000, 20)
    assert list(fine.broken()) == [] and fine.blocks == 3
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


@pytest.mark.parametrize(("vocabulary", "at_most_us", "of_floor"), [(32_000, 50, 0.8), (128_256, 120, 0.88)])
def test_what_is_counted_stays_within_its_targets_on_an_h100(
    vocabulary: int, at_most_us: float, of_floor: float
) -> None:
    exit_cost, *verify = costs(GPUS[0], 8, vocabulary, 4096)
    assert exit_cost.floor_us / exit_cost.expected_us > of_floor
    assert max(one.expected_us for one in verify) < at_most_us
    assert [(one.launches, one.passes) for one in verify] == [(2, 2), (5, 5), (7, 5), (10, 8)]


@pytest.mark.parametrize(("slots", "over_floor"), [(256, 1.3), (2048, 1.4), (8192, 1.7)])
def test_a_counted_forward_of_7_billion_weights_stays_near_its_weights_floor_on_an_h100(
    slots: int, over_floor: float
) -> None:
    cost = forward_cost(GPUS[0], LLAMA_2_7B, 8, slots)
    assert cost.floor_us == pytest.approx(3.95e3, rel=0.01)
    assert cost.over_floor < over_floor
    kept = 2 * 32 * 4096 * 2 * slots  # keys and values of every layer in 16 bits
    assert kept <= cost.kv_bytes < 1.3 * kept


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
    assert len(re.findall(r"exit_head", printed)) == len(GPUS)
    assert "a forward of target, 8 rows" in printed
    with pytest.raises(EdgespecError, match="--slots takes numbers"):
        CliRunner().invoke(kernels, ["costs", "--slots", "256;0"], catch_exceptions=False)


def test_a_config_of_another_kind_is_refused_by_name() -> None:
    with pytest.raises(EdgespecError, match="the config of rwkv does not say its 'num_attention_heads'"):
        Shape.of({"hidden_size": 8}, "rwkv")
