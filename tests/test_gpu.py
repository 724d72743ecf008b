"""A GPU computes what the CPU computes: kernels, hints in cells of host memory, captured forwards.

`pytest -m gpu tests/test_gpu.py` runs the Triton kernels on a GPU at real sizes. The other cases run the same checks on
the CPU at small sizes, with the plain Python kernels, so that the checks themselves are tested everywhere.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from kernel_backends import same_samplings
from numpy.typing import NDArray

torch = pytest.importorskip("torch")
from test_cuda_graphs import Rerun  # noqa: E402
from tree_attention_cases import CASES, inputs_of  # noqa: E402

from edgespec.core.params import SamplingParams  # noqa: E402
from edgespec.core.server_options import ServerOptions  # noqa: E402
from edgespec.kernels.arguments import on_host  # noqa: E402
from edgespec.kernels.attention_plan import AttentionPlan  # noqa: E402
from edgespec.kernels.data import CELL_WORDS, Cells, Curves, Trees  # noqa: E402
from edgespec.kernels.exit_head import exit_head  # noqa: E402
from edgespec.kernels.exit_hint import exit_hint  # noqa: E402
from edgespec.kernels.tree_attention import tree_attention  # noqa: E402
from edgespec.kernels.verify import verify  # noqa: E402
from edgespec.model.gpu_check.forward_steps import Watcher  # noqa: E402
from edgespec.model.target import Target  # noqa: E402
from edgespec.model.target_engine import ForwardRequest, HintAddress  # noqa: E402
from edgespec.verifying.verifier import Verifier, VerifierLimits  # noqa: E402

TOLERANCE = {
    "float32": {"rtol": 1e-5, "atol": 1e-5},
    "float16": {"rtol": 4e-3, "atol": 4e-3},
    "bfloat16": {"rtol": 3e-2, "atol": 3e-2},
}
"""Of attention's results."""

NEAR_TIE = {"float32": 1e-3, "float16": 0.05, "bfloat16": 0.3}
"""Margins below which two kernels may choose different tokens."""

PROMPT = [5, 80, 17, 300, 44, 80, 17, 300, 9]


@dataclass(frozen=True)
class Place:
    """Where kernels run, with which backend, and how large a vocabulary and a hidden row they get."""

    device: Any
    backend: str
    vocabulary: int
    width: int

    def on(self, *arrays: Any) -> list[Any]:
        tensors = [one if torch.is_tensor(one) else torch.from_numpy(np.asarray(one)) for one in arrays]
        return [tensor.to(self.device) for tensor in tensors]

    def target(self) -> Target:
        target = Target.load(dtype="float32", device=str(self.device))
        if self.device.type == "cpu":
            target.use_graphs(Rerun())
        return target


@pytest.fixture(
    params=[
        "cpu",
        pytest.param(
            "cuda",
            marks=[
                pytest.mark.gpu,
                pytest.mark.timeout(600),
                pytest.mark.skipif(not torch.cuda.is_available(), reason="torch finds no CUDA GPU here"),
            ],
        ),
    ]
)
def place(request: pytest.FixtureRequest) -> Place:
    if request.param == "cpu":
        return Place(torch.device("cpu"), "reference", 97, 32)
    return Place(torch.device("cuda"), "triton", 3001, 256)


def assert_alike(got: Any, wanted: Any, margins: Any, near_tie: float) -> None:
    others = np.flatnonzero((on_host(got) != wanted) & (margins > near_tie))
    assert not len(others), f"rows {others.tolist()} decide other tokens, and are no near-ties"


def weights(rows: int, vocabulary: int, width: int, dtype: str = "float32") -> list[Any]:
    random = torch.Generator().manual_seed(11)
    hidden, norm, head = (
        torch.randn(s, generator=random) for s in ((rows, width), (width,), (vocabulary, width))
    )
    return [one.to(getattr(torch, dtype)) for one in (hidden, norm.abs() + 0.5, head / 8)]


def columns(rows: int) -> dict[str, Any]:
    temperatures = np.where(np.arange(rows) % 2, 0.8, 0.0).astype(np.float32)
    positions = np.arange(rows, dtype=np.int32) + 50
    return {"temperatures": temperatures, "seeds": np.full(rows, 3, np.uint64), "positions": positions}


@pytest.mark.parametrize("rows", [1, 8, 64])
@pytest.mark.parametrize("dtype", NEAR_TIE)
def test_exit_head_decides_the_same_tokens(place: Place, dtype: str, rows: int) -> None:
    given = weights(rows, place.vocabulary, place.width, dtype)
    wanted = exit_head(*given, **columns(rows), backend="cpu")
    got = exit_head(*place.on(*given), **columns(rows), backend=place.backend)
    assert_alike(got.tokens, wanted.tokens, wanted.margins, NEAR_TIE[dtype])


@pytest.mark.parametrize("name", CASES)
def test_tree_attention_reads_what_the_reference_reads(place: Place, name: str) -> None:
    sessions, given = inputs_of(CASES[name])
    plan = AttentionPlan.of(sessions, CASES[name].groups, CASES[name].tile_queries)
    want = torch.as_tensor(tree_attention(**given, plan=plan, backend="reference"))
    there = {key: place.on(value)[0] if torch.is_tensor(value) else value for key, value in given.items()}
    got = tree_attention(**there, plan=plan.on(place.device), backend="auto").cpu().to(want.dtype)
    torch.testing.assert_close(got, want, **TOLERANCE[CASES[name].dtype])


@pytest.mark.parametrize(
    "sampling",
    [
        {},
        {"temperature": 0.8},
        {"temperature": 1, "top_k": 40, "top_p": 0.95},
        {"temperature": 1.3, "min_p": 0.02},
    ],
)
def test_verify_decides_the_same_tokens(place: Place, sampling: dict[str, Any], rows: int = 24) -> None:
    logits = 3 * torch.randn(rows, place.vocabulary, generator=torch.Generator().manual_seed(11))
    positions = np.arange(rows, dtype=np.int32) + 50
    given = Trees.single_rows(rows), positions, same_samplings(rows, seed=3, **sampling)
    wanted = verify(logits, *given, backend="cpu")
    got = verify(*place.on(logits), *given, backend=place.backend)
    assert_alike(got.choices, wanted.choices, wanted.margins, NEAR_TIE["float32"])


def test_exits_leave_the_same_hints_in_host_memory(place: Place) -> None:
    wanted, got = cells_of(Place(torch.device("cpu"), "cpu", 40, 64)), cells_of(place)
    assert wanted[:, 1].tolist() == [1, 1, 1, 1], "every session's path holds a node"
    np.testing.assert_array_equal(got[:, :4], wanted[:, :4])
    probabilities = [cells[:, 4].copy().view(np.float32) for cells in (got, wanted)]
    np.testing.assert_allclose(*probabilities, atol=1e-3)


def cells_of(place: Place, rows: int = 16, sessions: int = 4) -> NDArray[np.int32]:
    given = weights(rows, 40, 64)
    drafted = np.repeat(
        exit_head(*given, **columns(rows), backend="cpu").tokens[::4], 4
    )  # the first node is right
    drafted[2::4] = (drafted[2::4] + 1) % 40
    cuda = place.device.type == "cuda"
    words = torch.zeros((2, sessions, 1, CELL_WORDS), dtype=torch.int32, pin_memory=cuda)
    named = columns(rows) | {"seeds": np.full(rows, 3)}
    offsets, parents = np.arange(0, 17, 4, dtype=np.int32), np.array([-1, 0, 0, 1] * sessions, np.int32)
    exit_hint(
        *place.on(*given),
        **dict(zip(named, place.on(*named.values()), strict=True)),
        trees=Trees(*place.on(offsets, parents, drafted)),
        curves=Curves(torch.tensor([[0.0, 2.0]]), torch.tensor([[0.1, 1.0]]), (0.0,)).on(place.device),
        curve_of=place.on(np.zeros(sessions, np.int32))[0],
        cells=Cells(words, torch.ones(1, dtype=torch.int32, device=place.device), 0),
        backend=place.backend,
    )
    if cuda:
        torch.cuda.synchronize()
    cells: NDArray[np.int32] = words.numpy()[1, :, 0]
    return cells


@pytest.mark.parametrize("sampling", [SamplingParams(), SamplingParams(temperature=0.8, top_k=50, seed=7)])
def test_captured_forwards_write_the_same_text(
    place: Place, sampling: SamplingParams, tokens: int = 24
) -> None:
    target = place.target()
    assert target.hint_cells is not None and target.runner.graphs is not None
    watcher = target.hint_cells.mailbox = Watcher(target.hint_cells.cells)
    wanted, margins = text_of(Target.load(dtype="float32", device="cpu"), sampling, tokens)
    got, _ = text_of(target, sampling, tokens)
    differing = [i for i in range(tokens) if got[i] != wanted[i]][:1]
    assert all(margins[i] <= NEAR_TIE["float32"] for i in differing)
    assert not target.runner.graphs.failed
    assert watcher.early or place.device.type == "cpu", "no hint was there before its verdict"


def text_of(target: Target, sampling: SamplingParams, tokens: int) -> tuple[list[int], list[float]]:
    """The target's text behind PROMPT, with drafts from prompt lookup; and the margins."""
    options = ServerOptions(fill=True, prompt_lookup=True)
    verifier = Verifier(PROMPT, tokens, options, VerifierLimits(target.context_length))
    cache = target.open_cache(verifier.slots.capacity)
    margins: list[float] = []
    while verifier.finish is None:
        forward = verifier.plan()
        address = HintAddress(
            0, len(verifier.text), 0, 0.0, np.ones(len(forward.nodes), np.uint32), lambda count: None
        )
        given = cache, forward.piece, forward.decide, sampling, sampling.seed or 0, lambda rows: None
        (decisions,) = target.forward_batch([ForwardRequest(*given, hint_address=address)])
        verdict = verifier.conclude(forward, decisions.tokens.tolist(), decisions.path.tolist())
        assert verdict is not None
        margins += decisions.margins[verdict.picks].tolist()
    cache.release()
    return verifier.text[len(PROMPT) :], margins


@pytest.fixture
def benchmarks(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    root = Path(__file__).resolve().parent.parent
    if not (root / "benchmarks").exists():
        pytest.skip("the benchmarks are not here")
    monkeypatch.syspath_prepend(str(root))
    yield


def test_kernels_and_hints_are_timed(
    place: Place, benchmarks: None, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from benchmarks import hints, kernels

    for module in (kernels, hints):
        monkeypatch.setattr(sys, "argv", ["benchmark", "--quick", "--device", place.device.type])
        assert module.main() == 0
    printed = capsys.readouterr().out
    assert printed.count("kernel verify_open") == 6
    assert "a forward with hints" in printed
