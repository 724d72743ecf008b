"""A replica of a fleet without Ray: it answers for itself, is checked, and finishes its texts when it is to end."""

from __future__ import annotations

import asyncio
import json
import threading
import urllib.request
from types import SimpleNamespace
from typing import Any

import pytest
from links import has_ipv6
from scripted_models import HashModel
from stubs import StubTarget, stub_session

from edgespec.core.where import Place, Question
from edgespec.fleet.replica import Replica, ReplicaSettings
from edgespec.fleet.scaling import LOAD, by_load
from edgespec.server.settings import ServerSettings

SCRIPTED = HashModel()


class PagedTarget(StubTarget):
    pages = SimpleNamespace(count=10, used=0, reclaimable=0)


def replica(target: StubTarget | None = None, host: str = "127.0.0.1") -> Replica:
    return Replica(ReplicaSettings(lambda: target or PagedTarget(SCRIPTED), ServerSettings(), host))  # type: ignore[arg-type,return-value]


def ask(one: Replica, body: bytes, path: str = "/where", method: str = "POST") -> tuple[int, bytes]:
    return asyncio.run(asked(one, body, path, method))


async def asked(one: Replica, body: bytes, path: str = "/where", method: str = "POST") -> tuple[int, bytes]:
    """As Ray Serve calls it."""

    async def answer() -> bytes:
        return body

    request: Any = SimpleNamespace(
        url=SimpleNamespace(path=path), method=method, headers={"content-length": str(len(body))}, body=answer
    )
    response = await one(request)
    return response.status_code, bytes(response.body)


def end(one: Replica) -> None:
    """As Ray Serve does."""
    ending = one.__del__()
    assert ending is not None
    asyncio.run(ending)


def test_a_replica_names_its_own_server() -> None:
    one = replica()
    status, body = ask(one, Question("a").to_json())
    place = Place.from_json(body)
    with stub_session(place.address.port, scripted=SCRIPTED) as session:
        session.prompt([1, 2])
        list(session)
        assert session.tokens == SCRIPTED.continuation([1, 2], 40)
        shown = one.status()
    assert status == 200 and shown["address"] == str(place.address)
    assert (shown["state"], shown["sessions"], shown["tokens"]) == ("serving", 1, 40)
    one.check_health()
    end(one)
    with pytest.raises(RuntimeError, match="has ended"):
        one.check_health()


@pytest.mark.skipif(not has_ipv6(), reason="this machine has no IPv6 loopback")
def test_a_replica_on_ipv6_names_an_address_that_can_be_called() -> None:
    one = replica(host="::1")
    status, body = ask(one, Question("a").to_json())
    place, shown = Place.from_json(body), one.status()
    assert status == 200 and place.address.host == "::1" and shown["address"] == f"[::1]:{place.address.port}"
    with urllib.request.urlopen(f"http://{shown['metrics']}/health", timeout=10) as answer:
        assert answer.read() == b"ok\n"
    end(one)


def test_a_replica_answers_nothing_but_where() -> None:
    one = replica()
    assert ask(one, b"", "/health", "GET")[0] == 404
    assert ask(one, b" " * 5000)[0] == 413
    assert ask(one, b"nonsense") == (400, json.dumps({"error": "the body is not JSON"}).encode())
    end(one)


def test_a_replica_tells_its_load_to_the_autoscaler() -> None:
    target = PagedTarget(SCRIPTED)
    target.pages = SimpleNamespace(count=10, used=4, reclaimable=0)
    one = replica(target)
    while (told := one.record_autoscaling_stats()[LOAD]) == 0.0:  # the loop has not looked yet
        pass
    assert told == pytest.approx(0.4 / 0.7)
    end(one)


@pytest.mark.parametrize(
    ("loads", "replicas", "expected"),
    [
        ([], 3, 3),
        ([1.0, 1.05], 2, 2),
        ([1.4, 1.4], 2, 3),
        ([1.4, 1.4], 3, 3),
        ([0.5] * 4, 4, 2),
        ([0.0, 0.0], 2, 1),
    ],
)
def test_a_fleet_has_the_replicas_that_bring_its_load_to_the_one_asked_for(
    loads: list[float], replicas: int, expected: int
) -> None:
    context = SimpleNamespace(
        aggregated_metrics={LOAD: dict(enumerate(loads))} if loads else None, target_num_replicas=replicas
    )
    assert by_load(context) == (expected, {})


def test_a_replica_that_is_to_end_finishes_its_texts_and_takes_no_more() -> None:
    running, go_on = threading.Event(), threading.Event()

    def hold() -> None:
        running.set()
        assert go_on.wait(30)

    one = replica(PagedTarget(SCRIPTED, before_forward=hold))
    port = Place.from_json(ask(one, Question("a").to_json())[1]).address.port
    with stub_session(port, scripted=SCRIPTED) as session:
        session.prompt([1, 2])
        assert running.wait(10)
        ending = threading.Thread(target=lambda: asyncio.run(refuses_while_it_ends(one, go_on)))
        ending.start()
        assert go_on.wait(30)
        list(session)
    ending.join(30)
    assert not ending.is_alive()
    assert session.tokens == SCRIPTED.continuation([1, 2], 40)


async def refuses_while_it_ends(one: Replica, go_on: threading.Event) -> None:
    """In one loop, as Ray Serve does: a question that came here all the same must not wait for the texts."""
    ending = one.__del__()
    assert ending is not None
    ended = asyncio.ensure_future(ending)
    while (await asyncio.wait_for(asked(one, Question("b").to_json()), 30))[0] != 503:
        await asyncio.sleep(0)
    go_on.set()
    await ended
