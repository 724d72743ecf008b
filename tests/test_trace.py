"""Traces of a pair: what was recorded is what is played, and a file that is none is refused in a sentence."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from edgespec.core.errors import EdgespecError
from edgespec.drafting.modes import policy
from edgespec.engines.bundled import bundled_engine
from edgespec.engines.draft_engine import load_draft
from edgespec.sim.plan import Situation, predict
from edgespec.sim.scripted_model import TraceModel
from edgespec.sim.simulation import simulate
from edgespec.sim.trace import Trace

BUNDLED = Path(__file__).parent / "data" / "bundled.trace.npz"
"""The bundled pair at T = 0.8, as `edgespec plan --record FILE --temperature 0.8` writes it."""


@pytest.fixture(scope="module")
def trace() -> Trace:
    return Trace.load(BUNDLED)


def rewritten(file: Path, **changes: object) -> Path:
    """The bundled trace with some of its fields changed; None: left out."""
    with np.load(BUNDLED) as stored:
        fields = {**{name: stored[name] for name in stored.files}, **changes}
    np.savez(file, **{name: np.asarray(value) for name, value in fields.items() if value is not None})
    return file


@pytest.mark.parametrize("mode", ["cloud", "sync", "preempt", "stream", "auto"])
def test_every_mode_gives_the_recorded_text(trace: Trace, mode: str) -> None:
    for recorded in trace.texts[:4]:
        outcome = simulate(
            TraceModel(trace, recorded),
            policy(mode),
            recorded.prompt,
            max_new_tokens=len(recorded.tokens),
        )
        assert outcome.text == recorded.tokens


def test_the_oracle_says_what_was_recorded_and_on_the_texts_path_alone(trace: Trace) -> None:
    recorded = trace.texts[0]
    scripted = TraceModel(trace, recorded)
    text = [*recorded.prompt, *recorded.tokens[:5]]
    assert scripted.target(text) == recorded.tokens[5]
    assert scripted.draft(text)[0] == recorded.draft_tokens[5].tolist()
    assert scripted.exit(text, trace.exits[1][0])[0] == recorded.exit_tokens[5, 1]
    astray = [*text[:-1], text[-1] + 1]
    assert scripted.draft(astray) == scripted.draft(astray) != scripted.draft(text)


def test_speculation_pays_on_the_bundled_pair_and_least_where_the_way_is_long(trace: Trace) -> None:
    speeds = [predict(Situation(rtt_ms=rtt_ms), "auto", trace=trace).tokens_per_s for rtt_ms in (0, 40, 160)]
    assert speeds == sorted(speeds, reverse=True)
    assert speeds[1] > predict(Situation(rtt_ms=40), "cloud", trace=trace).tokens_per_s


def test_the_probabilities_are_calibrated(trace: Trace) -> None:
    stated = np.concatenate([one.draft_probabilities[:, 0] for one in trace.texts]).astype(float)
    assert stated.mean() == pytest.approx(trace.acceptance, abs=0.08)


def test_a_saved_trace_is_the_same_again(trace: Trace, tmp_path: Path) -> None:
    trace.save(tmp_path / "again.npz")
    again = Trace.load(tmp_path / "again.npz")
    assert (again.target, again.temperature, again.exits) == (trace.target, trace.temperature, trace.exits)
    for one, other in zip(again.texts, trace.texts, strict=True):
        assert (one.prompt, one.tokens) == (other.prompt, other.tokens)
        assert np.array_equal(one.exit_probabilities, other.exit_probabilities)


def test_a_trace_of_another_version(tmp_path: Path) -> None:
    with pytest.raises(EdgespecError, match=r"is a trace of version 7, .* reads version 1: record it again"):
        Trace.load(rewritten(tmp_path / "other.npz", version=7))


@pytest.mark.parametrize(
    "changes",
    [
        {"version": None},
        {"tokens": None},
        {"tokens": np.zeros(3, np.int32)},
        {"lengths": np.array([-1, 1], np.int32)},
        {"draft_probabilities": np.zeros((3, 4), np.float16)},
        {"exits": np.array([[4.0, 2.0]])},
        {"temperature": np.array("warm")},
    ],
)
def test_a_trace_whose_fields_do_not_fit(tmp_path: Path, changes: dict[str, object]) -> None:
    with pytest.raises(EdgespecError, match=r"is no trace, or a damaged one: record it"):
        Trace.load(rewritten(tmp_path / "odd.npz", **changes))


def test_a_file_that_is_cut_short_or_something_else(tmp_path: Path) -> None:
    whole = BUNDLED.read_bytes()
    for content in (b"", b"{}", whole[: len(whole) // 2], whole[:600] + bytes(64) + whole[664:]):
        (tmp_path / "cut.npz").write_bytes(content)
        with pytest.raises(EdgespecError, match=r"is no trace, or a damaged one"):
            Trace.load(tmp_path / "cut.npz")
    with pytest.raises(EdgespecError, match=r"there is no trace .*record one with"):
        Trace.load(tmp_path / "none.npz")


@pytest.mark.parametrize("temperature", [0.0, 0.8])
def test_the_bundled_pair_says_what_it_is_recorded_to_say(temperature: float, tmp_path: Path) -> None:
    pytest.importorskip("torch")
    from edgespec.model.target import Target
    from edgespec.train.recording import record

    prompt = [5, 9, 300, 17, 44]
    recorded = record(
        Target.load(threads=1),
        load_draft(bundled_engine()),
        [prompt, prompt],
        temperature=temperature,
        max_new_tokens=12,
    )
    first, second = recorded.texts
    assert len(first.tokens) == len(first.draft_tokens) == len(first.exit_tokens) == 12
    assert (first.tokens == second.tokens) == (temperature == 0)  # each has its own noise
    assert all(0 < share < 1 for _, share in recorded.exits)
