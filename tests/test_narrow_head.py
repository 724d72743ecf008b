"""An LM head of 8 bits for exits: what it holds, what the kernel says of it, who reads it, and how often its guesses
are those of the head itself."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from kernel_backends import BACKENDS
from numpy.typing import NDArray
from test_exit_head import as_numpy, assert_agree, case, logit_error
from test_target_exits import exit_heads
from tiny_models import save, tiny

from edgespec.core.errors import EdgespecError
from edgespec.core.params import SamplingParams
from edgespec.core.slots import SlotMap
from edgespec.core.tokenizer import Tokenizer
from edgespec.core.tree import DraftTree
from edgespec.kernels import arguments, narrow_head
from edgespec.kernels.data import HeadSettings
from edgespec.kernels.exit_head import exit_head
from edgespec.kernels.narrow_head import narrowed
from edgespec.model import backends
from edgespec.model import target as target_module
from edgespec.model.target import Target
from edgespec.model.target_engine import ExitRows, ForwardRequest

TRITON = BACKENDS[1:]


def narrow_case(shape: tuple[int, int, int], dtype: str) -> dict[str, Any]:
    given = case(shape, dtype)
    given["head"], given["scales"] = narrowed(given["head"])
    return given


def test_each_number_is_off_by_half_a_scale_at_most(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(narrow_head, "TOKENS_AT_ONCE", 7)
    head = torch.randn(50, 24, generator=torch.Generator().manual_seed(1)).bfloat16()
    head[3] = 0
    narrow, scales = narrowed(head)
    wide = head.float()
    assert narrow.dtype == torch.int8 and scales.dtype == torch.float32
    assert ((narrow.float() * scales[:, None] - wide).abs() <= 0.5001 * scales[:, None]).all()
    largest = narrow.abs().amax(-1)
    assert largest.tolist() == [0 if token == 3 else 127 for token in range(50)]


def test_the_reference_multiplies_by_what_the_numbers_stand_for() -> None:
    given = narrow_case((5, 24, 60), "bfloat16")
    stands_for = given.pop("head").float() * given.pop("scales")[:, None]
    got = exit_head(**narrow_case((5, 24, 60), "bfloat16"), backend="reference")
    given.update(head=stands_for, hidden=given["hidden"].float(), norm=given["norm"].float())
    want = exit_head(**given, backend="reference")
    sure = want.margins > 0.2  # the rows are rounded to bfloat16 in one of them
    assert sure.sum() >= 2
    np.testing.assert_array_equal(got.tokens[sure], want.tokens[sure])


@pytest.mark.parametrize("backend", TRITON)
@pytest.mark.parametrize("dtype", arguments.HALVES)
def test_the_kernel_says_what_the_reference_says(dtype: str, backend: str) -> None:
    for shape in [(3, 41, 257), (17, 24, 130), (64, 16, 33)]:
        given, settings = narrow_case(shape, dtype), HeadSettings(1e-5, 0.5, 9.0)
        got, want = (exit_head(**given, settings=settings, backend=one) for one in (backend, "reference"))
        like = {**given, "head": (given["head"] * given["scales"][:, None]).to(given["hidden"].dtype)}
        assert_agree(as_numpy(got), want, logit_error(like, settings), given["temperatures"])


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"scales": None}, "head must be bfloat16, not int8"),
        ({"head": torch.zeros(70, 16).bfloat16()}, "head must be int8, not bfloat16"),
        ({"scales": torch.ones(69)}, r"scales must be \[70\]"),
        ({"scales": torch.ones(70).half()}, "scales must be float32"),
        ({"hidden": torch.zeros(4, 16), "norm": torch.ones(16)}, "hidden must be a half where scales are"),
        ({"backend": "cpu"}, "head must be bfloat16, not int8: pass the head as it is"),
    ],
)
def test_what_does_not_fit_is_named(changes: dict[str, Any], message: str) -> None:
    given = {**narrow_case((4, 16, 70), "bfloat16"), "backend": "reference", **changes}
    with pytest.raises(EdgespecError, match=message):
        exit_head(**given)


@pytest.mark.parametrize(
    ("backend", "dtype", "bits", "read"),
    [
        ("reference", "bfloat16", 8, torch.int8),
        ("reference", "bfloat16", 16, torch.bfloat16),
        ("reference", "float32", 8, torch.float32),
        ("cpu", "bfloat16", 8, torch.bfloat16),
    ],
)
def test_who_reads_it(
    backend: str, dtype: str, bits: int, read: torch.dtype, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setitem(backends.BACKEND_OF_DEVICE, "cpu", backend)
    folder = save(tiny("llama"), tmp_path)
    exit_heads(folder / "exits", folder)
    target = Target.load(folder, dtype=dtype, kv_memory="16MiB", exit_bits=bits)
    assert target.exits is not None and target.exits.guesses is not None
    assert target.exits.guesses._weight.dtype == read


def test_it_is_there_before_the_memory_that_is_free_goes_to_keys_and_values(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    order: list[str] = []
    read, pages = target_module.ExitReader, target_module.kv_pages
    monkeypatch.setattr(target_module, "ExitReader", lambda *a, **k: order.append("exits") or read(*a, **k))
    monkeypatch.setattr(target_module, "kv_pages", lambda *given: order.append("pages") or pages(*given))
    folder = save(tiny("llama"), tmp_path)
    exit_heads(folder / "exits", folder)
    Target.load(folder, dtype="float32", kv_memory="16MiB")
    assert order == ["exits", "pages"]


TEXT = """def mean(values):
    total = 0.0
    for value in values:
        total += value
    return total / len(values)

The function adds the values one after the other, and divides their sum by how many there are. It fails for an empty
list.
"""


def test_its_guesses_are_those_of_the_head_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    """On the bundled target, 99 % of them; and as many are right."""
    monkeypatch.setitem(backends.BACKEND_OF_DEVICE, "cpu", "reference")
    whole, narrow = (guesses(bits) for bits in (16, 8))
    assert whole[0].size >= 4 * 48
    assert np.mean(whole[0] == narrow[0]) >= 0.98
    right = [np.mean(tokens == decided) for tokens, decided in (whole, narrow)]
    assert right[1] >= right[0] - 0.01


def guesses(bits: int) -> tuple[NDArray[np.int32], NDArray[np.int32]]:
    """What each exit guesses of each row of TEXT, and what is decided: both [exits, rows]."""
    target = Target.load(dtype="bfloat16", device="cpu", kv_memory="64MiB", exit_bits=bits)
    assert target.tokenizer_path is not None
    text = Tokenizer.load(target.tokenizer_path.parent).encode(TEXT)[:64]
    slots, heard = SlotMap(128), list[ExitRows]()
    piece = slots.plan(text, len(text), DraftTree(len(text)), [])
    every = np.arange(len(piece))
    cache = target.open_cache(slots.capacity)
    asked = ForwardRequest(cache, piece, every, SamplingParams(temperature=0.8), 3, heard.append)
    (decided,) = target.forward_batch([asked])
    cache.release()
    return np.stack([rows.tokens for rows in heard]), np.stack([decided.tokens] * len(heard))
