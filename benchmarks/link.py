"""What a bad link costs a token: round trips of a block and its verdict, with and without hedging, and outages.

    sudo python -m benchmarks.link               # loss and round trips, then outages; about 6 minutes

Blocks and verdicts go through the real resilient connection and listener, over real TCP in two network namespaces
between which lossy_link.py carries or loses each packet. Models are left out: the server answers at once. `plain` is
one TCP connection with the kernel's own settings, for comparison.
"""

from __future__ import annotations

import secrets
import socket
import sys
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from multiprocessing.connection import Connection
from typing import Any

import numpy as np

from benchmarks.lossy_link import HOSTS, LossyLink, Weather
from benchmarks.results import Results, Row, options
from edgespec import _native
from edgespec.core.address import Address
from edgespec.core.errors import EdgespecError
from edgespec.core.params import SamplingParams
from edgespec.core.server_options import ServerOptions
from edgespec.edge.handshake import connect
from edgespec.edge.link_options import LinkOptions
from edgespec.edge.opening import encoded_open

HASH = bytes(32)
CONNECTIONS = 8
MAX_WAIT_S = 120.0
NOTES = "Real TCP between two namespaces; a user-space process delays and loses each packet. No models."


def main() -> int:
    arguments = options(
        "link", __doc__, {"rtt_ms": [20.0], "samples": 160, "outage_s": [1.0]},
        rtt_ms=[20.0, 40.0, 80.0], loss=([0.0, 1.0, 2.0], "percent of packets, each way"),
        burst=(1, "packets lost in a row"), outage_s=[1.0, 5.0, 10.0], samples=(2000, "round trips a row"),
    )  # fmt: skip
    results = Results("link", NOTES, arguments.json)
    with LossyLink(serve, measure) as ours, LossyLink(serve_plain, measure_plain) as plain:
        ports = {id(link): link.pipes[0].recv() for link in (ours, plain)}
        ways = (("plain", plain, False), ("one connection", ours, False), ("hedged", ours, True))
        for rtt_ms in arguments.rtt_ms:
            for loss in arguments.loss:
                for name, link, hedge in ways:
                    link.weather = Weather(rtt_ms, loss / 100, arguments.burst)
                    row = {"rtt_ms": rtt_ms, "loss_percent": loss, "burst": arguments.burst, "link": name}
                    results.add({**row, **_round_trips(link, ports[id(link)], hedge, arguments.samples)})
        for seconds in arguments.outage_s:
            for hedge in (False, True):
                after_ms = _after_outage_ms(ours, ports[id(ours)], hedge, seconds)
                results.add({"outage_s": seconds, "hedged": hedge, "first_after_ms": after_ms})
    return 0


def _round_trips(link: LossyLink, port: int, hedge: bool, samples: int) -> Row:
    """Several connections at once, or a run would take an hour; each has one block out at a time, as a thin stream."""
    link.pipes[1].send((port, hedge, samples))
    times, sent, again, size = link.pipes[1].recv()
    times_ms = np.array([(end_s - start_s) * 1e3 for start_s, end_s in times])
    return {
        "samples": len(times),
        "p50_ms": float(np.percentile(times_ms, 50)),
        "p99_ms": float(np.percentile(times_ms, 99)),
        "worst_ms": float(times_ms.max()),
        "sent_again": again / sent,
        "bytes_a_token": size / len(times),
    }


def _after_outage_ms(link: LossyLink, port: int, hedge: bool, seconds: float) -> float:
    """From the link's return to the first verdict after it; blocks follow each other all the while."""
    link.weather = Weather(40.0)
    link.pipes[1].send((port, hedge, -round((seconds + 3) * 20)))
    time.sleep(1.0)
    link.weather = Weather(40.0, outage=True)
    time.sleep(seconds)
    link.weather = Weather(40.0)
    back_s = time.monotonic()
    times, *_ = link.pipes[1].recv()
    return float(min(end_s for _, end_s in times if end_s > back_s) - back_s) * 1e3


# In the namespaces


def serve(pipe: Connection) -> None:
    """A server without a model: every block is answered with one token."""
    listener = _native.Listener("0.0.0.0", 0, opens=(1e3, 1e3))
    pipe.send(listener.port)
    welcome = _native.encode_welcome(
        version=_native.PROTOCOL_VERSION, hosts_draft=False, vocabulary_hash=HASH, context_length=2**30,
        vocabulary_size=64, layers=1, exit_layers=[], end_tokens=[], target_id="echo", max_frame_bytes=65536,
        max_block_nodes=64,
    )  # fmt: skip
    lengths: dict[int, int] = {}
    while True:
        for number, message in listener.poll(None):
            if isinstance(message, _native.Hello):
                listener.welcome(number, welcome, b"")
            elif isinstance(message, _native.Block):
                length = lengths[number] = lengths.get(number, 1) + 1
                listener.send(number, _verdict(length - 1))
            elif isinstance(message, _native.Close):
                listener.disconnect(number)


def _verdict(base_length: int) -> bytes:
    return _native.encode_verdict(
        1, base_length=base_length, tokens=np.array([7], dtype=np.int32), logprobs=None,
        finish=_native.FinishReason.NONE, forwards=1, rows=1, forward_us=1, clock_us=0, turn=0,
    )  # fmt: skip


def serve_plain(pipe: Connection) -> None:
    """A plain TCP server: what comes goes back."""
    listening = socket.create_server(("0.0.0.0", 0))
    pipe.send(listening.getsockname()[1])

    def echo(connection: socket.socket) -> None:
        with connection, suppress(OSError):
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            while data := connection.recv(4096):
                connection.sendall(data)

    while True:
        threading.Thread(target=echo, args=(listening.accept()[0],), daemon=True).start()


def measure(pipe: Connection) -> None:
    _measure(pipe, _play)


def measure_plain(pipe: Connection) -> None:
    _measure(pipe, _play_plain)


def _measure(pipe: Connection, play: Callable[..., Any]) -> None:
    """Runs what it is asked for: round trips over several connections, or (samples < 0) a moment apart over one."""
    while True:
        port, hedge, samples = pipe.recv()
        found: list[Any] = []
        count, pause_s = (CONNECTIONS, 0.0) if samples > 0 else (1, 0.02)
        given = (port, hedge, abs(samples) // count, pause_s, found)
        threads = [threading.Thread(target=play, args=given) for _ in range(count)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        times = [time for times, *_ in found for time in times]
        pipe.send((times, *(sum(one[i] for one in found) for i in (1, 2, 3))))


def _play(port: int, hedge: bool, samples: int, pause_s: float, found: list[Any]) -> None:
    patient = LinkOptions(timeout_s=MAX_WAIT_S, hedge=hedge, give_up_s=MAX_WAIT_S)
    link: _native.ResilientConnection | None = None
    while link is None:
        with suppress(EdgespecError):  # the SYN, or what follows, was lost too often
            link, _ = connect([Address(HOSTS[0], port)], HASH, patient)
    link.open(encoded_open(SamplingParams(), 0, ServerOptions(), [1], 2**20))
    for node in range(1, 20):
        _round_trip(link, node)  # both connections are up, and the round trip is known
    sent, again, size = link.frames_sent, link.frames_hedged, link.bytes_sent + link.bytes_received
    times = []
    for node in range(20, 20 + samples):
        times.append(_round_trip(link, node))
        time.sleep(pause_s)
    size = link.bytes_sent + link.bytes_received - size
    found.append((times, link.frames_sent - sent, link.frames_hedged - again, size))
    link.close()


def _round_trip(link: _native.ResilientConnection, node: int) -> tuple[float, float]:
    """When the block left, and when its verdict was there."""
    start_s = time.monotonic()
    parents = np.array([_native.COMMITTED_BIT | node], dtype=np.uint32)
    probabilities = np.array([255], dtype=np.uint8)
    link.send(_native.encode_block(1, node, np.array([7], dtype=np.int32), parents, probabilities))
    while not isinstance(link.receive(None), _native.Verdict):
        pass
    return start_s, time.monotonic()


def _play_plain(port: int, hedge: bool, samples: int, pause_s: float, found: list[Any]) -> None:
    times: list[tuple[float, float]] = []
    with socket.create_connection((HOSTS[0], port)) as connection:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for _ in range(samples):
            start_s = time.monotonic()
            connection.sendall(secrets.token_bytes(48))
            rest = 48
            while rest:
                rest -= len(connection.recv(rest))
            times.append((start_s, time.monotonic()))
    found.append((times, len(times), 0, 96 * len(times)))


if __name__ == "__main__":
    sys.exit(main())
