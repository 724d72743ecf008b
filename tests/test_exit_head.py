"""exit_head in every backend beside its reference: equal ids up to near-ties, and what it refuses."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from kernel_backends import BACKENDS, INTERPRETED, TIERS
from numpy.typing import NDArray
from tiny_models import rows_of

from edgespec import _native
from edgespec.core.errors import EdgespecError
from edgespec.core.params import SamplingParams
from edgespec.kernels import arguments
from edgespec.kernels.data import ExitScores, HeadSettings
from edgespec.kernels.exit_head import exit_head
from edgespec.kernels.exit_head_reference import exit_logits
from edgespec.model.exits import adapt
from edgespec.model.sampling import guess_together

SHAPES = [(1, 64, 100), (3, 41, 1271), (5, 32, 257), (8, 96, 40), (17, 24, 130), (1, 1, 1), (64, 16, 33)]
"""(R, D, V); among them what divides nothing."""

DTYPES = ["float32", "bfloat16", "float16"]


def case(shape: tuple[int, int, int], dtype: str, seed: int = 0) -> dict[str, Any]:
    """Arguments of exit_head; every third row is greedy, temperatures and seeds differ by row."""
    rows, width, vocabulary = shape
    random = torch.Generator().manual_seed(seed)
    numbers = np.arange(rows)
    return {
        "hidden": (2 * torch.randn(rows, width, generator=random)).to(getattr(torch, dtype)),
        "norm": (1 + 0.1 * torch.randn(width, generator=random)).to(getattr(torch, dtype)),
        "head": (torch.randn(vocabulary, width, generator=random) * 2 / width**0.5).to(getattr(torch, dtype)),
        "temperatures": np.where(numbers % 3 == 2, 0, 0.6 + 0.1 * (numbers % 5)).astype(np.float32),
        "seeds": (numbers.astype(np.uint64) + np.uint64(1)) * np.uint64(0x9E3779B97F4A7C15),
        "positions": (7 * numbers).astype(np.int32),
    }


def floats(*values: float) -> NDArray[np.float32]:
    return np.array(values, np.float32)


def integers(*values: int) -> NDArray[np.int32]:
    return np.array(values, np.int32)


def logit_error(arguments_of: dict[str, Any], settings: HeadSettings) -> NDArray[np.float64]:
    """The bound [R] on a kernel's logits: D float32 roundings of the sum of |x w|, and for halves that of one element
    of x that falls to the other side in the norm."""
    x = np.abs(arguments.widened(arguments_of["hidden"])).astype(np.float64)
    x = x / np.sqrt(np.square(x).mean(-1, keepdims=True) + settings.epsilon)
    x = x * np.abs(arguments.widened(arguments_of["norm"]))
    head = np.abs(arguments.widened(arguments_of["head"])).astype(np.float64)
    total = (x @ head.T).max(-1)
    half = {"float32": 0.0, "float16": 2.0**-10, "bfloat16": 2.0**-7}[
        arguments.dtype_name(arguments_of["head"])
    ]
    one_element = half * x.max(-1) * head.max()
    return ((x.shape[1] + 8) * 2.0**-24 * total + one_element) * abs(settings.logit_scale)


def assert_agree(
    got: ExitScores, want: ExitScores, error: NDArray[np.float64], temperatures: NDArray[np.float32]
) -> None:
    """Ids are equal but where the reference's margin is within twice the error of a score; the rest within it."""
    scale = np.where(temperatures > 0, temperatures, 1)
    bound = 2 * error / scale + 1e-5
    differing = got.tokens != want.tokens
    assert np.all(want.margins[differing] <= bound[differing])
    same = ~differing
    finite = np.isfinite(want.margins) & same
    np.testing.assert_array_equal(got.margins[same & ~finite], want.margins[same & ~finite])
    assert np.all(np.abs(got.margins - want.margins)[finite] <= bound[finite])
    np.testing.assert_array_equal(got.tokens < 0, want.tokens < 0)


def as_numpy(scores: ExitScores) -> ExitScores:
    return ExitScores(*(np.asarray(column) for column in vars(scores).values()))


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("dtype", DTYPES)
def test_a_backend_says_what_the_reference_says(dtype: str, backend: str) -> None:
    interpreted = (
        [(3, 41, 257), (1, 1, 1), (64, 16, 33), (8, 96, 40)] if dtype == "float32" else [(17, 24, 130)]
    )
    for shape in interpreted if backend == "triton" else SHAPES:
        given = case(shape, dtype)
        got, want = exit_head(**given, backend=backend), exit_head(**given, backend="reference")
        assert_agree(as_numpy(got), want, logit_error(given, HeadSettings()), given["temperatures"])


@pytest.mark.parametrize("backend", BACKENDS)
def test_scaled_and_capped_logits_are_the_references(backend: str) -> None:
    given, settings = case((4, 48, 300), "float32"), HeadSettings(1e-5, 0.25, 3.0)
    got, want = (exit_head(**given, settings=settings, backend=one) for one in (backend, "reference"))
    assert_agree(as_numpy(got), want, logit_error(given, settings), given["temperatures"])


@pytest.mark.parametrize("tier", TIERS)
@pytest.mark.parametrize("dtype", DTYPES)
def test_every_tier_of_the_processor_agrees(dtype: str, tier: str) -> None:
    for shape in SHAPES:
        given = case(shape, dtype)
        raw = [arguments.raw(given[name]) for name in ("hidden", "norm", "head")]
        columns = [given[name] for name in ("temperatures", "seeds", "positions")]
        got = ExitScores(*_native.exit_head(*raw, dtype, *columns, 1e-6, 1.0, 0.0, threads=1, tier=tier))
        assert_agree(
            got, exit_head(**given, backend="reference"), logit_error(given, HeadSettings()), columns[0]
        )


def test_numpy_arrays_do_as_well_as_tensors() -> None:
    given = case((2, 24, 50), "float32")
    arrays = {name: np.asarray(value) for name, value in given.items()}
    mixed = {**given, "norm": arrays["norm"]}
    assert (
        exit_head(**mixed, backend="cpu").tokens.tolist() == exit_head(**given, backend="cpu").tokens.tolist()
    )
    assert (
        exit_head(**arrays, backend="cpu").tokens.tolist()
        == exit_head(**given, backend="cpu").tokens.tolist()
    )


@pytest.mark.parametrize("backend", ["reference", *BACKENDS])
def test_it_is_the_torch_path_of_the_target(backend: str) -> None:
    rows, width, vocabulary, temperature = 6, 32, 500, 0.8
    given = case((rows, width, vocabulary), "float32")
    given.update(temperatures=np.full(rows, temperature, np.float32), seeds=np.full(rows, 77, np.uint64))
    nothing = torch.zeros(4, width)
    x = adapt(given["hidden"], nothing, nothing.T, given["norm"], 1e-6)
    own = rows_of(SamplingParams(temperature=temperature), 77, given["positions"])
    tokens, margins = guess_together(x @ given["head"].T, [own])
    got = as_numpy(exit_head(**given, backend=backend))
    np.testing.assert_array_equal(got.tokens, tokens)
    np.testing.assert_allclose(got.margins, margins, atol=1e-4)


@pytest.mark.parametrize("backend", ["reference", *BACKENDS])
def test_ties_go_to_the_lowest_id(backend: str) -> None:
    given = case((1, 8, 600), "float32")
    given.update(head=torch.ones(600, 8), temperatures=np.zeros(1, np.float32))
    got = as_numpy(exit_head(**given, backend=backend))
    assert (got.tokens.tolist(), got.margins.tolist()) == ([0], [0.0])


@pytest.mark.parametrize("backend", ["reference", *BACKENDS])
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_a_row_that_is_no_number_is_reported_and_never_sampled_from(value: float, backend: str) -> None:
    given = case((4, 16, 70), "float32")
    given["hidden"][1, 3] = value
    got = as_numpy(exit_head(**given, backend=backend))
    assert (got.tokens < 0).tolist() == [False, True, False, False]
    assert np.isnan(got.margins[1])


def test_the_reference_multiplies_as_torch_does() -> None:
    given = case((3, 20, 30), "float32")
    x = adapt(given["hidden"], torch.zeros(1, 20), torch.zeros(20, 1), given["norm"], 1e-6)
    logits = exit_logits(given["hidden"], given["norm"], given["head"], HeadSettings())
    np.testing.assert_allclose(logits, x @ given["head"].T, atol=1e-5)


@pytest.mark.parametrize("backend", ["reference", *BACKENDS])
@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("hidden", torch.zeros(4, 0), "hidden must be"),
        ("hidden", torch.zeros(16), "hidden must be"),
        ("head", torch.zeros(70, 16, device="meta"), "hidden, norm and head must be on one device"),
        ("head", torch.zeros(70, 16).bfloat16(), "head must be float32"),
        ("head", torch.zeros(70, 32)[:, :16], "head must be contiguous"),
        ("norm", torch.zeros(32)[::2], "norm must be contiguous"),
        ("temperatures", floats(0.0, np.inf, 1.0, 1.0), "temperatures must be from 0"),
        ("temperatures", floats(0.0, 1.0, -1.0, 1.0), "temperatures must be from 0"),
        ("temperatures", floats(0.0, np.nan, 1.0, 1.0), "temperatures must be from 0"),
        ("temperatures", floats(0.0), r"temperatures must be \[4\]"),
        ("temperatures", [0.0, 1.0, 1.0, 1.0], "temperatures must be a numpy array or a torch tensor"),
        ("seeds", np.zeros(2, np.uint64), r"seeds must be \[4\]"),
        ("seeds", np.zeros(4), "seeds must be uint64, not float64: convert it with .astype"),
        ("positions", integers(0, 1, -2, 3), "positions must be from 0"),
        ("positions", integers(0, 1, 2, 3)[None], r"positions must be \[4\]"),
        ("hidden", torch.zeros(0, 16), "hidden must be"),
        ("hidden", torch.zeros(65, 16), "at most 64 rows"),
        ("hidden", torch.zeros(4, 16, dtype=torch.float64), "hidden must be float32"),
        ("hidden", torch.zeros(4, 32)[:, ::2], "hidden must be contiguous"),
        ("hidden", [[0.0]], "hidden must be a numpy array or a torch tensor"),
        ("norm", torch.zeros(17), r"norm must be \[16\]"),
        ("norm", torch.zeros(16).half(), "norm must be float32"),
        ("head", torch.zeros(0, 16), "head must be"),
        ("head", torch.zeros(70, 15), "head must be"),
        ("backend", "fast", "backend must be"),
    ],
)
def test_what_does_not_fit_is_named(name: str, value: object, message: str, backend: str) -> None:
    given = {**case((4, 16, 70), "float32"), "backend": backend, name: value}
    with pytest.raises(EdgespecError, match=message):
        exit_head(**given)


def test_a_number_of_threads_below_one_is_named() -> None:
    with pytest.raises(EdgespecError, match="threads must be"):
        exit_head(**case((4, 16, 70), "float32"), backend="cpu", threads=0)


@pytest.mark.skipif(INTERPRETED, reason="the interpreter runs where it is asked to")
def test_triton_is_refused_for_arrays_on_the_cpu() -> None:
    with pytest.raises(EdgespecError, match="backend must be cpu or reference"):
        exit_head(**case((4, 16, 70), "float32"), backend="triton")
