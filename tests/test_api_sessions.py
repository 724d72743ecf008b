"""One engine for many requests: places in a queue, sessions that are kept for a next turn, clients that go away."""

import asyncio
import http.client
import json
import threading
import time
import urllib.request
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import pytest

pytest.importorskip("fastapi")
pytest.importorskip("uvicorn")

from api_server import MODEL, ChatTokenizer, expected, open_api, post
from faults import FaultProxy
from stubs import StubTarget, serving

from edgespec.api.ask import Ask
from edgespec.api.door import Limits
from edgespec.api.errors import ApiError
from edgespec.api.fair_queue import FairQueue
from edgespec.core.params import SamplingParams
from edgespec.edge.link_options import LinkOptions


class GatedTarget(StubTarget):
    """Forwards wait until `go` is set."""

    def __init__(self) -> None:
        self.go = threading.Event()
        super().__init__(MODEL, before_forward=lambda: self._wait())

    def _wait(self) -> None:
        assert self.go.wait(20)


def until(condition: Any) -> None:
    deadline_s = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < deadline_s
        time.sleep(0.005)


def completion(prompt: str, tokens: int, **more: Any) -> dict[str, Any]:
    return {"prompt": prompt, "max_tokens": tokens, "temperature": 0, **more}


@contextmanager
def streaming(url: str, body: dict[str, Any]) -> Iterator[http.client.HTTPResponse]:
    connection = http.client.HTTPConnection(url.removeprefix("http://"))
    connection.request(
        "POST", "/v1/completions", json.dumps({**body, "stream": True}), {"Content-Type": "application/json"}
    )
    try:
        yield connection.getresponse()
    finally:
        connection.close()


def events(lines: Iterable[bytes]) -> list[dict[str, Any]]:
    found = [line[6:].strip() for line in lines if line.startswith(b"data: ")]
    return [json.loads(one) for one in found if one != b"[DONE]"]


def test_a_full_queue_answers_429_and_says_when_to_come_back() -> None:
    target = GatedTarget()
    with open_api(target, limits=Limits(streams=1, waiting=1)) as (url, door):
        answers: list[int] = []

        def ask(prompt: str) -> None:
            answers.append(post(f"{url}/v1/completions", completion(prompt, 4))[0])

        threads = [threading.Thread(target=ask, args=(prompt,)) for prompt in ("AB", "CD")]
        for number, thread in enumerate(threads):
            thread.start()
            until(lambda number=number: door.queue.running + door.queue.waiting == number + 1)
        status, body, headers = post(f"{url}/v1/completions", completion("EF", 4))
        assert (status, body["error"]["code"]) == (429, "rate_limit_exceeded")
        assert int(headers["Retry-After"]) > 0
        target.go.set()
        for thread in threads:
            thread.join()
        assert answers == [200, 200]


def test_an_address_leaves_places_to_others_whatever_users_it_names() -> None:
    async def order() -> list[str]:
        queue, served, go = FairQueue(4, 40), [], asyncio.Event()

        async def ask(address: str, user: str) -> None:
            async with queue.turn(address, user):
                served.append(address)
                await go.wait()

        crowd = [asyncio.ensure_future(ask("greedy", f"user {i}")) for i in range(30)]
        await asyncio.sleep(0)
        assert (queue.running, queue.waiting) == (3, 27)
        own = [asyncio.ensure_future(ask("honest", "")) for _ in range(3)]
        await asyncio.sleep(0)
        assert served.count("honest") == 1, "a place was left to it"
        more = [asyncio.ensure_future(ask("greedy", "")) for _ in range(8)]
        await asyncio.sleep(0)
        refused = [one.exception() for one in more if one.done()]
        assert len(refused) == 5 and all(isinstance(one, ApiError) for one in refused)
        more = [one for one in more if not one.done()]
        go.set()
        await asyncio.gather(*crowd, *own, *more)
        assert (queue.running, queue.waiting) == (0, 0)
        return served

    served = asyncio.run(order())
    assert [i for i, one in enumerate(served) if one == "honest"][-1] <= 8, "it takes every second turn"


def test_a_client_that_goes_away_frees_its_place_at_once() -> None:
    target = GatedTarget()
    with open_api(target, limits=Limits(streams=1)) as (url, door):
        for waits in (False, True):  # one is being written, one waits for its turn
            connection = http.client.HTTPConnection(url.removeprefix("http://"))
            body = json.dumps(completion("AB", 400))
            connection.request("POST", "/v1/completions", body, {"Content-Type": "application/json"})
            until(lambda waits=waits: door.queue.waiting if waits else door.queue.running)
            if not waits:
                first = connection
        connection.close()
        until(lambda: not door.queue.waiting)
        first.close()
        until(lambda: not door.queue.running)
        target.go.set()
        assert post(f"{url}/v1/completions", completion("CD", 6))[1]["choices"][0]["text"] == expected(
            "CD", 6
        )
        assert sum(target.forwards) < 400


def test_a_next_turn_reads_only_what_is_new_and_gives_the_same_text() -> None:
    with open_api() as (url, _):
        messages = [{"role": "user", "content": "HI"}]
        for turn in range(3):
            body = {"messages": messages, "max_tokens": 10, "temperature": 0}
            _, answer, _ = post(f"{url}/v1/chat/completions", body)
            prompt = ChatTokenizer().chat(messages)
            text = answer["choices"][0]["message"]["content"]
            assert text == expected(prompt, 10)
            cached = answer["usage"]["prompt_tokens_details"]["cached_tokens"]
            assert cached == (len(prompt) - len("UOA") if turn else 0)
            assert answer["usage"]["prompt_tokens"] == len(prompt)
            messages += [{"role": "assistant", "content": text}, {"role": "user", "content": "O"}]


def test_an_answer_that_is_asked_for_again_starts_from_the_same_prompt() -> None:
    with open_api() as (url, door):
        texts = [
            post(f"{url}/v1/completions", completion("A" * 30, 9))[1]["choices"][0]["text"] for _ in "12"
        ]
        assert texts == [expected("A" * 30, 9)] * 2
        assert len(door.store) == 1


def test_no_more_sessions_are_kept_than_allowed() -> None:
    with open_api(limits=Limits(kept_sessions=2)) as (url, door):
        for letter in "ABCD":
            post(f"{url}/v1/completions", completion(letter * 4, 3))
        assert len(door.store) == 2


@pytest.mark.parametrize(
    ("params", "prompt", "text", "reused"),
    [
        ({}, [1, 2, 3, 9], [1, 2, 3, 4], 3),
        ({}, [1, 2, 3], [1, 2, 3, 4], 2),
        ({}, [1, 2, 3], [1, 2, 3, 4, 5, 6, 7], 0),
        ({"temperature": 1.0}, [1, 2, 3, 4, 9], [1, 2, 3, 4], 4),
        ({"temperature": 1.0}, [1, 2, 3], [1, 2, 3, 4], 0),
        ({"temperature": 1.0, "seed": 5}, [1, 2, 3], [1, 2, 3, 4], 2),
    ],
)
def test_a_session_is_reused_where_no_position_is_drawn_twice(
    params: dict[str, Any], prompt: Sequence[int], text: Sequence[int], reused: int
) -> None:
    assert Ask(prompt, "prompt", SamplingParams(**params)).reusable(text) == reused


def test_a_kept_session_whose_server_is_gone_is_replaced_by_a_new_one() -> None:
    with serving(StubTarget(MODEL)) as server, FaultProxy(server.port) as proxy:  # noqa: SIM117
        with open_api(port=proxy.port, link=LinkOptions(give_up_s=0.2)) as (url, _):
            first = post(f"{url}/v1/completions", completion("A" * 8, 4))[1]["choices"][0]["text"]
            proxy.outage("refuse")
            status, body, _ = post(f"{url}/v1/completions", completion("A" * 8 + first + "B", 4))
            assert (status, body["error"]["code"]) == (503, "server_unavailable")
            proxy.recover()
            status, body, _ = post(f"{url}/v1/completions", completion("A" * 8 + first + "B", 4))
            assert status == 200 and body["choices"][0]["text"] == expected("A" * 8 + first + "B", 4)


class SlowTarget(StubTarget):
    """Forwards take long enough for two texts to begin; once `begun` is set they wait until `cut` is."""

    def __init__(self) -> None:
        self.begun, self.cut = threading.Event(), threading.Event()
        super().__init__(MODEL, before_forward=lambda: self._wait())

    def _wait(self) -> None:
        assert self.cut.wait(20 if self.begun.is_set() else 0.02) or not self.begun.is_set()


def test_without_a_link_only_clients_that_ask_get_provisional_text() -> None:
    target, tokens = SlowTarget(), 120
    link = LinkOptions(offline_after_s=0.05, give_up_s=20)
    with (
        serving(target) as server,
        FaultProxy(server.port) as proxy,
        open_api(port=proxy.port, link=link) as (url, _),
        streaming(url, completion("ABC", tokens, edgespec={"offline": True, "mode": "stream"})) as knowing,
        streaming(url, completion("ABD", tokens, edgespec={"mode": "stream"})) as unknowing,
    ):
        target.begun.set()
        proxy.outage("refuse")
        target.cut.set()
        seen: list[dict[str, Any]] = []
        while not any(one.get("edgespec", {}).get("provisional") for one in seen):
            seen += events([knowing.readline()])
        proxy.recover()
        seen += events(knowing)
        rest = events(unknowing)
    assert "".join(one["choices"][0]["text"] for one in seen) == expected("ABC", tokens)
    assert "".join(one["choices"][0]["text"] for one in rest) == expected("ABD", tokens)
    assert not any("edgespec" in one for one in rest)
    assert [one["edgespec"] for one in seen if "edgespec" in one][-1]["standing"] == ""


def test_metrics_count_what_was_served() -> None:
    with open_api() as (url, _):
        post(f"{url}/v1/completions", completion("A" * 20, 9, edgespec={"mode": "sync"}))
        post(f"{url}/v1/completions", completion("A" * 20, 5, edgespec={"mode": "sync"}))
        lines = urllib.request.urlopen(f"{url}/metrics").read().decode().splitlines()
    values = {
        name: float(value) for name, _, value in (line.rpartition(" ") for line in lines) if name[:1] != "#"
    }
    assert values["edgespec:prompt_tokens_total"] == 40
    assert values["edgespec:prefix_cache_hits_total"] == 19
    assert values["edgespec:generation_tokens_total"] == 14
    assert values['edgespec:request_success_total{finished_reason="length"}'] == 2
    assert values["edgespec:num_requests_running"] == values["edgespec:num_requests_waiting"] == 0
    drafted, accepted = (
        values[f"edgespec:spec_decode_num_{what}_tokens_total"] for what in ("draft", "accepted")
    )
    assert 0 < accepted <= drafted
