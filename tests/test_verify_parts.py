"""verify in Triton where several programs share a row: what the reference says, wherever the parts end."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from kernel_backends import BACKENDS, INTERPRETED, samplings
from test_verify import PARAMETERS, TIED, as_numpy, assert_agree, lists, positions, ragged, random_logits

from edgespec.core.errors import EdgespecError
from edgespec.kernels import philox, variants, verify_launch
from edgespec.kernels.data import Trees
from edgespec.kernels.verify import verify

if INTERPRETED:
    import triton
    import triton.language as tl

    from edgespec.kernels.philox_triton import about_gumbel
    from edgespec.kernels.verify_triton import NOISE_ERROR

    @triton.jit
    def fill(words, out, COUNT: tl.constexpr):
        at = tl.arange(0, COUNT)
        tl.store(out + at, about_gumbel(tl.load(words + at).to(tl.uint32, bitcast=True)))


TRITON = BACKENDS[1:]


@pytest.fixture
def narrow(monkeypatch: pytest.MonkeyPatch) -> None:
    """Parts of 128 tokens."""
    monkeypatch.setattr(verify_launch, "VERIFY_BLOCK", 32)


@pytest.mark.parametrize("backend", TRITON)
def test_programs_that_share_rows_decide_what_the_reference_decides(backend: str, narrow: None) -> None:
    ways = [PARAMETERS[3], PARAMETERS[4], PARAMETERS[6], PARAMETERS[7]]
    rows, vocabulary = len(ways), 131
    given: dict[str, Any] = {
        "trees": Trees.of([0, 1, 2, 4], [-1, -1, -1, 0], [0, 0, 0, 5]),
        "positions": positions(rows, 3),
        "samplings": samplings([{"seed": 2**63 + 5, **one} for one in ways[:3]]),
        "seen": lists(rows, 17, vocabulary),
        "biases": ragged([0, 2, 2, 3, 4], [3, 130, 70, 5], [4.0, -2.0, 3.0, 1.0]),
    }
    logits = random_logits(rows, vocabulary, "bfloat16")
    got, want = (verify(logits, **given, backend=one) for one in (backend, "reference"))
    assert_agree(as_numpy(got), want)


@pytest.mark.parametrize("backend", TRITON)
def test_a_tree_of_more_rows_than_are_held_at_once_is_walked_as_the_reference_does(
    backend: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    kernel = variants.KERNELS["verify_choose"]
    held = replace(kernel, constants={**kernel.constants, "ROWS": 4})
    monkeypatch.setitem(variants.KERNELS, "verify_choose", held)
    logits = torch.zeros(12, 7)
    logits[torch.arange(12), torch.arange(12) % 7] = 9  # row r chooses r % 7
    parents = [-1, 0, 0, 2, 3, 3, 4, -1, 0, 1, 2, 3]
    trees = Trees.of([0, 7, 12], parents, [-1, 5, 0, 2, 6, 3, 4, -1, 0, 1, 2, 3])
    given = trees, positions(12), samplings([{}, {}])
    got, want = (verify(logits, *given, backend=one) for one in (backend, "reference"))
    assert_agree(as_numpy(got), want)
    assert [path.tolist() for path in want.walks()] == [[2, 3, 5], [1, 2, 3, 4]]


@pytest.mark.parametrize("backend", TRITON)
def test_equals_in_several_parts_are_filtered_as_the_reference_does(backend: str, narrow: None) -> None:
    logits = random_logits(3, 131, "float32").round()
    logits[:, ::3] = -torch.inf
    logits[2] = 1.0
    given = Trees.single_rows(3), positions(3), samplings([{**one, "seed": 1} for one in TIED])
    got, want = (verify(logits, *given, backend=one) for one in (backend, "reference"))
    assert_agree(as_numpy(got), want)


@pytest.mark.parametrize("backend", TRITON)
def test_only_the_rounds_that_a_session_asks_for_are_launched(
    backend: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    launches: list[str] = []
    launch = verify_launch.launch

    def counted(kernel: str, *given: Any) -> None:
        launches.append(kernel)
        launch(kernel, *given)

    monkeypatch.setattr(verify_launch, "launch", counted)
    logits = random_logits(1, 20, "float32")
    counts = []
    for way in (
        {},
        {"top_k": 3, "top_p": 0.5},
        {"temperature": 1.0, "top_k": 3},
        {"temperature": 1.0, "top_p": 0.5},
    ):
        launches.clear()
        verify(logits, Trees.single_rows(1), positions(1), samplings([way]), backend=backend)
        counts.append(len(launches))
    assert counts == [2, 2, 5, 7]  # the first two are greedy


@pytest.mark.parametrize("backend", TRITON)
def test_verdicts_come_from_the_device_in_one_copy(backend: str, monkeypatch: pytest.MonkeyPatch) -> None:
    logits, given = random_logits(2, 20, "float32"), (Trees.single_rows(2), positions(2), samplings([{}, {}]))
    verdicts = verify(logits, *given, backend=backend)
    downloads: list[Any] = []
    download = verdicts.packed.download
    monkeypatch.setattr(verdicts.packed, "download", lambda: downloads.append(1) or download())
    assert_agree(verdicts.on_host(), verify(logits, *given, backend="reference"))
    assert downloads == [1]


@pytest.mark.parametrize("backend", TRITON)
def test_trees_that_are_on_the_device_are_not_copied_again(
    backend: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    moved: list[Any] = []
    on_device = verify_launch.on_device
    monkeypatch.setattr(
        verify_launch,
        "on_device",
        lambda columns, device: moved.extend(columns) or on_device(columns, device),
    )
    logits, trees = torch.zeros(2, 20), Trees.of([0, 2], [-1, 0], [-1, 0])
    placed = Trees(*(torch.from_numpy(one) for one in (trees.offsets, trees.parents, trees.tokens)))
    got = verify(logits, trees, positions(2), samplings([{}]), backend=backend, placed=placed)
    assert got.walks()[0].tolist() == [1]
    wanted = placed.offsets, placed.parents, placed.tokens
    for (given, _), one in zip(moved, wanted, strict=False):
        assert np.shares_memory(np.asarray(given), one.numpy())


@pytest.mark.parametrize("backend", TRITON)
def test_float64_is_refused_by_name(backend: str) -> None:
    with pytest.raises(EdgespecError, match=r"logits must be float32 or a half for triton, not float64"):
        verify(
            torch.zeros(1, 9, dtype=torch.float64),
            Trees.single_rows(1),
            positions(1),
            samplings([{}]),
            backend=backend,
        )


@pytest.mark.parametrize("backend", TRITON)
def test_quick_noise_is_never_off_by_as_much_as_the_choice_allows_for(backend: str) -> None:
    ends = np.arange(2048, dtype=np.uint32)
    turns = [2**23, 2**24, 2**25, 2**31, 2**32 - 2**20]
    random = np.random.default_rng(1).integers(0, 2**32, 4096, dtype=np.uint32)
    around = [np.arange(one - 256, one + 256, dtype=np.uint32) for one in turns[:4]]
    words = np.concatenate([ends, ~ends, *around, random, random >> 12])
    words = np.concatenate([words, np.zeros(16384 - len(words), np.uint32)])
    out = torch.empty(len(words))
    fill[(1,)](torch.from_numpy(words.view(np.int32)), out, COUNT=len(words))
    u = philox.uniform(words).astype(np.float64)
    exact = -np.log(-np.log1p(-u))
    assert np.abs(out.numpy() - exact).max() < NOISE_ERROR.value / 10
