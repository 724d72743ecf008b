"""What an operator sees and does: metrics, health, `edgespec top`, draining, a configuration file."""

import re
import threading
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console
from stubs import VOCABULARY_HASH, StubTarget, serving
from test_many_sessions import SCRIPTED, session
from tiny_models import tiny
from wire_frames import CASES

from edgespec import _native
from edgespec.cli.config import read_config
from edgespec.cli.serve import serve
from edgespec.cli.top import fetch, table
from edgespec.core.errors import EdgespecError
from edgespec.model.loaded_model import LoadedModel
from edgespec.model.target import Target
from edgespec.server.metrics import Metrics
from edgespec.server.monitoring import monitoring
from edgespec.server.server import Server


@pytest.fixture(scope="module")
def target() -> Target:
    return Target(LoadedModel(tiny(), "tiny", VOCABULARY_HASH), kv_memory="16MiB")


@pytest.fixture(scope="module")
def metrics() -> Metrics:
    return Metrics()


@pytest.fixture(scope="module")
def server(target: Target, metrics: Metrics) -> Iterator[Server]:
    with serving(target, metrics=metrics) as running:
        yield running


@pytest.fixture(scope="module")
def metrics_port(server: Server, target: Target, metrics: Metrics) -> Iterator[int]:
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr("edgespec.server.monitoring.KEPT_S", 0.0)
        with monitoring(server, metrics, target.pages, ("127.0.0.1", 0)) as port:
            yield port


def page(port: int, path: str) -> str:
    with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=10) as answer:
        return str(answer.read().decode())


def metric(port: int, name: str) -> float:
    lines = dict(line.rsplit(" ", 1) for line in page(port, "/metrics").splitlines() if line[:1] != "#")
    return float(lines[f"edgespec:{name}"])


def test_metrics_count_what_was_drafted_accepted_and_committed(server: Server, metrics_port: int) -> None:
    before = {name: metric(metrics_port, name) for name in ("generation_tokens_total", "prompt_tokens_total")}
    with session(server, "sync", max_new_tokens=20) as one:
        one.prompt([5, 6, 7])
        statistics = list(one)[-1].statistics
        assert metric(metrics_port, "sessions_open") == 1
        assert metric(metrics_port, "kv_cache_usage_perc") > 0
    assert metric(metrics_port, "generation_tokens_total") - before["generation_tokens_total"] == 20
    assert metric(metrics_port, "prompt_tokens_total") - before["prompt_tokens_total"] == 3
    drafted = metric(metrics_port, "spec_decode_num_draft_tokens_total")
    accepted = metric(metrics_port, "spec_decode_num_accepted_tokens_total")
    assert accepted == statistics.accepted
    assert 0 < drafted <= statistics.sent
    assert drafted == accepted + metric(metrics_port, "wasted_rows_total")
    assert metric(metrics_port, "time_to_first_token_seconds_count") >= 1
    verdicts = ("time_to_first_token_seconds_count", "inter_token_latency_seconds_count")
    assert metric(metrics_port, "rtt_seconds_count") == sum(metric(metrics_port, name) for name in verdicts)
    assert metric(metrics_port, "rtt_seconds_sum") > 0
    assert metric(metrics_port, 'request_success_total{finished_reason="length"}') >= 1


def test_top_shows_every_session(server: Server, metrics_port: int, target: Target) -> None:
    with session(server, max_new_tokens=7) as one:
        one.prompt([5, 6])
        list(one)
        rows = fetch(("127.0.0.1", metrics_port))
        console = Console(width=140, record=True)
        console.print(table(rows, {}))
    row = rows[-1]
    assert (row["tokens"], row["filled"], row["state"]) == (7, 7, "length")
    assert row["rtt_ms"] > 0
    assert row["kv_bytes"] == target.pool.page_bytes * 2  # its 9 tokens and 65 slots behind them
    shown = console.export_text()
    assert "length" in shown and "RTT" in shown
    assert f"{row['kv_bytes'] / 2**20:.1f} MiB" in shown


def test_top_without_a_server_says_what_to_do() -> None:
    with pytest.raises(EdgespecError, match="--metrics-port") as caught:
        fetch(("127.0.0.1", 9))
    assert "\n" not in str(caught.value)


def test_a_metrics_port_that_is_taken_is_named(server: Server, metrics_port: int, target: Target) -> None:
    again = monitoring(server, Metrics(), target.pages, ("127.0.0.1", metrics_port))
    with pytest.raises(EdgespecError, match="choose another --metrics-port"), again:
        pass


def test_an_unknown_page_names_those_there_are(metrics_port: int) -> None:
    with pytest.raises(urllib.error.HTTPError) as caught:
        page(metrics_port, "/nothing")
    assert caught.value.code == 404
    assert "/health" in caught.value.read().decode()
    assert page(metrics_port, "/health") == "ok\n"


# Draining


def test_a_draining_server_finishes_its_texts_refuses_new_ones_and_ends() -> None:
    running, forwards = threading.Event(), threading.Semaphore(0)

    def hold() -> None:
        running.set()
        assert forwards.acquire(timeout=30)

    with serving(StubTarget(SCRIPTED, before_forward=hold)) as server:
        hello = _native.encode_hello(vocabulary_hash=VOCABULARY_HASH, agent="test")
        late = _native.ResilientConnection([("127.0.0.1", server.port)], hello, hedge=False)
        assert isinstance(late.receive(10.0), _native.Welcome)
        with session(server) as one:
            one.prompt([1, 2])
            assert running.wait(10)
            server.drain(60)
            late.open(_native.encode_open(1, **CASES["open"].fields))
            answers = []
            while len(answers) < 2:  # between two forwards the server takes in what came
                forwards.release()
                if (answer := late.receive(1.0)) is not None:
                    answers.append(answer)
            forwards.release(100)
            list(one)
        assert one.tokens == SCRIPTED.continuation([1, 2], 30)
    by_kind = {type(answer): answer for answer in answers}
    assert by_kind.keys() == {_native.Goaway, _native.Error}
    error = by_kind[_native.Error]
    assert isinstance(error, _native.Error)
    assert (error.code, error.retryable) == (_native.ErrorCode.DRAINING, True)


def test_the_memory_that_a_server_may_take_adds_up() -> None:
    with serving(StubTarget(), max_sessions=64, shared_memory=True) as server:
        resident, most, *parts = map(int, re.findall(r"(\d+) MiB", server.memory))
        links, queues, sessions, shared = parts
        assert resident > 0 and most - len(parts) < sum(parts) <= most
        assert links == server.listener.most_leased_bytes >> 20
        assert queues == server._gate.most_connections
        assert sessions == 64 * (256 + 64) // 1024 and shared == 32 * 4


def test_a_server_with_nothing_to_finish_ends_at_once() -> None:
    server = Server(StubTarget(SCRIPTED), port=0)  # type: ignore[arg-type]
    thread = threading.Thread(target=server.run)
    thread.start()
    server.drain(1e6)
    thread.join(30)
    assert not thread.is_alive()


# Configuration


def config(folder: Path, text: str) -> dict[str, Any]:
    file = folder / "server.toml"
    file.write_text(text)
    return read_config(file, serve)


def test_a_configuration_has_the_names_of_the_flags(tmp_path: Path) -> None:
    text = 'port = 9000\nkv-memory = "40%"\nmax_sessions = 5\ndeterministic = true\n'
    expected = {"port": "9000", "kv_memory": "40%", "max_sessions": "5", "deterministic": True}
    assert config(tmp_path, text) == expected


@pytest.mark.parametrize(
    ("text", "sentence"),
    [("prot = 1", "unknown key 'prot'"), ("port = ", "is not TOML"), ("[port]\na = 1", "has the table")],
)
def test_a_configuration_that_is_none_is_refused_in_a_sentence(
    tmp_path: Path, text: str, sentence: str
) -> None:
    with pytest.raises(EdgespecError, match=sentence) as caught:
        config(tmp_path, text)
    assert "\n" not in str(caught.value)


def test_a_session_that_wants_tokens_faster_than_forwards_are_is_refused_from_the_first_on(
    server: Server,
) -> None:
    target = Target(LoadedModel(tiny(), "tiny", VOCABULARY_HASH), kv_memory="16MiB")
    with serving(target) as fresh, session(fresh, latency_ms=0.001) as one:
        one.prompt([5, 6])
        with pytest.raises(EdgespecError, match="even for one session"):
            list(one)
    with session(server, latency_ms=60_000.0, max_new_tokens=3) as one:
        one.prompt([5, 6])
        assert list(one)[-1].finish_reason == "length"
