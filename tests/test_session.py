"""Sessions against a server over real sockets, with stand-ins for the models: a text's whole life."""

import asyncio
import select
import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from scripted_models import HashModel
from stubs import StubDraft, StubTarget, StubTokenizer, play, serving, stub_session

from edgespec.core.errors import EdgespecError
from edgespec.core.params import SamplingParams
from edgespec.core.server_options import ServerOptions
from edgespec.drafting.policies import Stream, Sync
from edgespec.drafting.policy import Policy
from edgespec.drafting.speculator import Speculator
from edgespec.edge.async_session import AsyncSession
from edgespec.edge.link_options import LinkOptions
from edgespec.edge.session import Session
from edgespec.edge.trace import Event
from edgespec.server.server import Server

PROMPT = [1, 2, 3]
SCRIPTED = HashModel(draft_right=0.7, exit_right=0.8)


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with serving(StubTarget(SCRIPTED)) as running:
        yield running


def session(server: Server, mode: str | Policy = "sync", draft: Any = None, **options: Any) -> Session:
    return stub_session(server.port, scripted=SCRIPTED, mode=mode, draft=draft, **options)


def asynchronous_text(server: Server, mode: str | Policy) -> list[int]:
    """What the asyncio twin generates, in more than one step."""

    async def generate() -> list[int]:
        options: dict[str, Any] = {"mode": mode, "tokenizer": StubTokenizer(), "draft": StubDraft(SCRIPTED)}
        params = SamplingParams(max_new_tokens=40, seed=1)
        async with AsyncSession(("127.0.0.1", server.port), params=params, **options) as one:
            await one.prompt(PROMPT)
            assert len([step async for step in one]) > 1
        return one.session.tokens

    return asyncio.run(generate())


@pytest.mark.parametrize("mode", ["cloud", "sync", "preempt"])
def test_every_mode_gives_the_targets_text(server: Server, mode: str) -> None:
    with session(server, mode) as one:
        steps = play(one, PROMPT)
    assert one.tokens == SCRIPTED.continuation(PROMPT, 40)
    assert [token for step in steps for token in step.tokens] == one.tokens
    assert "".join(step.text for step in steps) == one.text
    assert steps[-1].finish_reason == one.finish_reason == "length"


@pytest.mark.parametrize("mode", ["sync", "preempt"])
def test_speculation_takes_fewer_forwards_than_tokens(server: Server, mode: str) -> None:
    with session(server, mode) as one:
        statistics = play(one, PROMPT)[-1].statistics
    assert statistics.target_forwards < statistics.committed == 40
    assert 0 < statistics.accepted <= statistics.sent <= statistics.drafted
    assert statistics.bytes_up > 0 and statistics.bytes_down > 0 and statistics.ttft_ms is not None


def test_hints_come_and_are_counted(server: Server) -> None:
    """Whether one is in time is for the simulator to test, which has no other clock than its own."""
    with session(server, "preempt") as one:
        statistics = play(one, PROMPT)[-1].statistics
    assert statistics.hints_hit <= statistics.hints_sent > 0


def test_a_long_prompt_is_read_in_chunks(server: Server) -> None:
    prompt = [i % 50 for i in range(400)]
    with session(server, max_new_tokens=20) as one:
        play(one, prompt)
    assert one.tokens == SCRIPTED.continuation(prompt, 20)


def test_log_probabilities_come_with_their_tokens(server: Server) -> None:
    with session(server, params={"logprobs": True}) as one:
        one.prompt(PROMPT)
        pairs = [pair for step in one for pair in zip(step.tokens, step.logprobs or [], strict=True)]
    assert len(pairs) == 40 and all(logprob == -token for token, logprob in pairs)


@pytest.mark.parametrize("mode", ["cloud", "sync", "auto"])
def test_the_likeliest_tokens_come_with_each_token_and_change_no_text(server: Server, mode: str) -> None:
    with session(server, mode=mode, params={"logprobs": True, "top_logprobs": 3}) as one:
        one.prompt(PROMPT)
        pairs = [pair for step in one for pair in zip(step.tokens, step.top_logprobs or [], strict=True)]
    assert one.tokens == SCRIPTED.continuation(PROMPT, 40)
    assert [top for _, top in pairs] == [{token + i: -token - i for i in range(3)} for token in one.tokens]


@pytest.mark.parametrize("mode", ["cloud", "sync"])
def test_a_stop_string_inside_a_block_ends_the_text_there(server: Server, mode: str) -> None:
    whole = StubTokenizer().decode(SCRIPTED.continuation(PROMPT, 40))
    stop = whole[10:13]
    with session(server, mode, params={"stop": (stop,)}) as one:
        play(one, PROMPT)
    end = whole.find(stop)
    assert one.text == whole[:end] and one.finish_reason == "stop"
    assert one.tokens == SCRIPTED.continuation(PROMPT, end + len(stop))


def test_a_next_turn_goes_on_from_the_text_so_far(server: Server) -> None:
    first = SCRIPTED.continuation(PROMPT, 10)
    with session(server, max_new_tokens=10) as one:
        play(one, PROMPT)
        one.append([7, 8], max_new_tokens=12)
        list(one)
    assert one.tokens == SCRIPTED.continuation([*PROMPT, *first, 7, 8], 12)


@pytest.mark.parametrize("mode", ["cloud", "preempt"])
def test_a_cancelled_text_stays_and_may_go_on(server: Server, mode: str) -> None:
    with session(server, mode, max_new_tokens=400) as one:
        one.prompt(PROMPT)
        one.step()
        kept = list(one.tokens)
        one.cancel()
        assert one.finish_reason == "cancelled" and one.finished
        one.append([5], max_new_tokens=10)
        list(one)
    assert kept == SCRIPTED.continuation(PROMPT, len(kept))
    assert one.tokens == SCRIPTED.continuation([*PROMPT, *kept, 5], 10)


def test_a_step_whose_time_has_passed_brings_nothing() -> None:
    free = threading.Event()
    with serving(StubTarget(SCRIPTED, before_forward=free.wait)) as held:
        with session(held, "cloud") as one:
            one.prompt(PROMPT)
            step = one.step(timeout_s=0.01)
            assert step.tokens == [] and not one.finished
            free.set()
            list(one)
        assert one.tokens == SCRIPTED.continuation(PROMPT, 40)


class Reluctant(Sync):
    """Holds every block back for a moment, which no message ends."""

    def hold_ms(self, view: Speculator, nodes: Sequence[int]) -> float:
        self.asked = not getattr(self, "asked", False)
        return 1.0 if self.asked else 0.0


def test_a_block_that_is_held_back_leaves_when_its_time_has_come(server: Server) -> None:
    with session(server, Reluctant()) as one:
        play(one, PROMPT)
    assert one.tokens == asynchronous_text(server, Reluctant()) == SCRIPTED.continuation(PROMPT, 40)
    assert one.statistics.rounds > 1


class SlowDraft(StubDraft):
    """While a verdict is due, a run ends no sooner than something has come."""

    session: Session
    waited: list[int]

    def run(self, *arguments: Any) -> Any:
        if self.session._loop.in_flight:
            assert select.select([self.session.fileno()], [], [], 10.0)[0]
            self.waited.append(len(self.session.trace or ()))
        return super().run(*arguments)


def test_what_came_while_the_draft_ran_is_looked_at_before_anything_is_sent(server: Server) -> None:
    draft, trace = SlowDraft(SCRIPTED), list[Event]()
    with session(server, Stream(options=ServerOptions(prompt_lookup=True)), draft=draft, trace=trace) as one:
        draft.session, draft.waited = one, []
        play(one, PROMPT)
    assert one.tokens == SCRIPTED.continuation(PROMPT, 40)
    followed = [(trace[run].kind, trace[run + 1].kind) for run in draft.waited]
    assert len(followed) > 1 and set(followed) == {("draft", "forward")}


def test_a_next_session_starts_from_what_an_earlier_one_measured(server: Server) -> None:
    with session(server, "auto") as one:
        play(one, PROMPT)
    learnt = one.measurements.forwards
    with session(server, "auto", measurements=one.measurements) as other:
        assert other.measurements.forwards == learnt > 0 and other.measurements.draft_ms.known
        assert other.measurements.slack_ms(0.0) == 0.0  # when forwards begin has to be learnt anew
        play(other, PROMPT)
    assert other.tokens == one.tokens
    assert one.measurements.forwards == learnt < other.measurements.forwards


def test_the_asyncio_twin_gives_the_same_text(server: Server) -> None:
    assert asynchronous_text(server, "preempt") == SCRIPTED.continuation(PROMPT, 40)


def test_many_sessions_at_once_each_get_their_own_text(server: Server) -> None:
    texts: dict[int, list[int]] = {}

    def generate(start: int) -> None:
        with session(server, ("sync", "preempt", "cloud")[start % 3]) as one:
            play(one, [start, 2])
            texts[start] = one.tokens

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(generate, range(8)))
    assert texts == {start: SCRIPTED.continuation([start, 2], 40) for start in range(8)}


def test_the_context_limit_ends_the_text(server: Server) -> None:
    prompt = [i % 50 for i in range(505)]
    with session(server, max_new_tokens=100) as one:
        play(one, prompt)
    assert one.tokens == SCRIPTED.continuation(prompt, 512 - 505) and one.finish_reason == "context"


def test_the_timeline_is_recorded(server: Server) -> None:
    trace: list[Event] = []
    with session(server, "preempt", trace=trace) as one:
        play(one, PROMPT)
    assert {event.kind for event in trace} >= {"draft", "block", "hint", "verdict", "forward"}
    assert all(event.start_s <= event.end_s for event in trace)


# Bad input


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"mode": "cloud", "timeout_s": 2}, "edgespec serve"),
        ({"mode": "sync"}, "needs a draft"),
        ({"mode": "fastest"}, "choose one of"),
        ({"mode": "cloud", "latency_ms": 0.0}, "latency_ms must be above 0"),
    ],
)
def test_a_session_that_cannot_be(options: dict[str, Any], says: str) -> None:
    with pytest.raises(EdgespecError, match=says):
        Session(("127.0.0.1", 9), tokenizer=StubTokenizer(), **options)  # type: ignore[arg-type]


def test_a_tokenizer_that_is_not_the_targets(server: Server) -> None:
    other = StubTokenizer()
    other.vocabulary_hash = b"\1" * 32
    with pytest.raises(EdgespecError, match="tokenizer"):
        Session(("127.0.0.1", server.port), mode="cloud", tokenizer=other)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("prompt", "says"), [([1] * 512, "shorten the prompt"), ([], "empty"), ([1, 50], "outside")]
)
def test_a_prompt_that_cannot_be(server: Server, prompt: list[int], says: str) -> None:
    with session(server) as one, pytest.raises(EdgespecError, match=says):
        one.prompt(prompt)


def test_a_logit_bias_for_a_token_that_there_is_not(server: Server) -> None:
    with (
        session(server, params={"logit_bias": {50: 1.0}}) as one,
        pytest.raises(EdgespecError, match="token"),
    ):
        play(one, PROMPT)


def test_a_target_that_fails_ends_its_session_and_no_other() -> None:
    failing = threading.Event()

    def fail() -> None:
        if failing.is_set():
            failing.clear()
            raise RuntimeError("out of memory")

    with serving(StubTarget(SCRIPTED, before_forward=fail)) as server:
        with session(server, "cloud") as one:
            failing.set()
            one.prompt(PROMPT)
            with pytest.raises(EdgespecError, match="out of memory"):
                list(one)
        with session(server, "cloud") as two:
            play(two, PROMPT)
        assert two.tokens == SCRIPTED.continuation(PROMPT, 40)


def test_a_server_that_goes_away_mid_text() -> None:
    with serving(StubTarget(SCRIPTED)) as server:
        one = session(server, "sync", max_new_tokens=400, link=LinkOptions(give_up_s=0.2))
        one.prompt(PROMPT)
        one.step()
    with one, pytest.raises(EdgespecError, match="went away"):
        list(one)
