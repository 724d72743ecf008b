"""What a bad link costs a token: round trips of a block and its verdict, with and without hedging, and outages.

sudo python -m benchmarks.link                # loss and round trips, then outages; about 6 minutes
sudo python -m benchmarks.link --quick --json link.json

Blocks and verdicts go through the real resilient connection and listener, over real TCP in two network namespaces between which
lossy_link.py carries or loses each packet. Models are left out: the server answers at once. `plain` is one TCP
connection with the kernel's own settings, for comparison.
"""

from __future__ import annotations

import argparse
import secrets
import socket
import threading
import time
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table

from benchmarks.lossy_link import HOSTS, LossyLink, Weather, echo
from benchmarks.results import results, save
from edgespec import _native
from edgespec.core.errors import EdgespecError
from edgespec.core.params import SamplingParams
from edgespec.core.server_options import ServerOptions
from edgespec.edge.connection import encoded_open
from edgespec.edge.handshake import Address, connect
from edgespec.edge.link_options import LinkOptions

HASH = bytes(32)
CONNECTIONS = 8
PATIENT_S = 120.0


def main() -> None:
    arguments = _arguments()
    console = Console()
    cells = []
    table = Table(
        "round trip ms", "loss", "link", "p50 ms", "p99 ms", "p99 / RTT", "sent again", "bytes a token"
    )
    with LossyLink(Weather(), serve, measure) as ours, LossyLink(Weather(), echo, measure_plain) as plain:
        ports = [link.pipes[0].recv() for link in (ours, plain)]
        for rtt_ms in arguments.rtt_ms:
            for loss in arguments.loss:
                weather = Weather(rtt_ms, loss / 100, arguments.burst)
                for name, link, port, hedge in (
                    ("plain", plain, ports[1], False),
                    ("one connection", ours, ports[0], False),
                    ("hedged", ours, ports[0], True),
                ):
                    link.change(weather)
                    cell = {"rtt_ms": rtt_ms, "loss_percent": loss, "burst": arguments.burst, "link": name}
                    cells.append({**cell, **_round_trips(link, port, hedge, arguments.samples)})
                    table.add_row(*_row(cells[-1]))
        console.print(table)
        ours.change(Weather(40.0))
        outages = Table("outage s", "hedged", "first token after it, ms")
        for seconds in arguments.outage_s:
            for hedge in (False, True):
                after_ms = _after_outage(ours, ports[0], hedge, seconds)
                cells.append({"outage_s": seconds, "hedged": hedge, "first_after_ms": after_ms})
                outages.add_row(f"{seconds:g}", str(hedge), f"{after_ms:.0f}")
        console.print(outages)
    if arguments.json:
        notes = (
            "Real TCP between two namespaces; a user-space process delays and loses each packet. No models."
        )
        save(results("link", cells, notes), arguments.json)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rtt-ms", type=float, nargs="+", default=[20, 40, 80])
    parser.add_argument(
        "--loss", type=float, nargs="+", default=[0, 1, 2], help="percent of packets, each way"
    )
    parser.add_argument("--burst", type=int, default=1, help="packets lost in a row")
    parser.add_argument("--outage-s", type=float, nargs="*", default=[1, 5, 10])
    parser.add_argument("--samples", type=int, default=2000, help="round trips a row")
    parser.add_argument("--quick", action="store_true", help="few samples, one round trip, one outage")
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    if arguments.quick:
        arguments.rtt_ms, arguments.samples, arguments.outage_s = [40], 400, [1]
    return arguments


def _round_trips(link: LossyLink, port: int, hedge: bool, samples: int) -> dict[str, Any]:
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


def _row(cell: dict[str, Any]) -> list[str]:
    return [
        f"{cell['rtt_ms']:g}",
        f"{cell['loss_percent']:g} %",
        cell["link"],
        f"{cell['p50_ms']:.1f}",
        f"{cell['p99_ms']:.1f}",
        f"{cell['p99_ms'] / cell['rtt_ms']:.1f}",
        f"{cell['sent_again']:.1%}",
        f"{cell['bytes_a_token']:.0f}",
    ]


def _after_outage(link: LossyLink, port: int, hedge: bool, seconds: float) -> float:
    """Milliseconds from the link's return to the first verdict after it; blocks follow each other all the while."""
    samples = round((seconds + 3) * 20)
    link.pipes[1].send((port, hedge, -samples))
    time.sleep(1.0)
    link.outage(True)
    time.sleep(seconds)
    link.outage(False)
    back_s = time.monotonic()
    times, *_ = link.pipes[1].recv()
    return min((end_s for _, end_s in times if end_s > back_s)) * 1e3 - back_s * 1e3


# In the namespaces


def serve(pipe: Connection) -> None:
    """A server without a model: every block is answered with one token."""
    listener = _native.Listener("0.0.0.0", 0, opens=(1e3, 1e3))
    pipe.send(listener.port)
    welcome = _native.encode_welcome(
        version=_native.PROTOCOL_VERSION, features=0, vocabulary_hash=HASH, context_length=2**30, vocabulary_size=64,
        layers=1, exit_layers=[], end_tokens=[], target_id="echo", max_frame_bytes=65536, max_block_nodes=64,
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


def measure(pipe: Connection) -> None:
    """Runs what it is asked for: so many round trips over several resilient connections; or over one, a moment apart."""
    while True:
        port, hedge, samples = pipe.recv()
        found: list[Any] = []
        many = samples > 0
        count = CONNECTIONS if many else 1
        work = (port, hedge, abs(samples) // count, 0.0 if many else 0.02, found)
        threads = [threading.Thread(target=_play, args=work) for _ in range(count)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        times = [time for times, *_ in found for time in times]
        pipe.send((times, *(sum(one[i] for one in found) for i in (1, 2, 3))))


def _play(port: int, hedge: bool, samples: int, pause_s: float, found: list[Any]) -> None:
    options = LinkOptions(timeout_s=PATIENT_S, hedge=hedge, give_up_s=PATIENT_S)
    while True:
        try:
            resilient_connection, _ = connect([Address(HOSTS[0], port)], HASH, options)
            break
        except EdgespecError:  # the SYN, or what follows, was lost too often
            continue
    resilient_connection.open(encoded_open(SamplingParams(), 0, ServerOptions(), [1], 2**20))
    for node in range(1, 20):
        _round_trip(resilient_connection, node)  # both connections are up, and the round trip is known
    before = (
        resilient_connection.frames_sent,
        resilient_connection.bytes_sent + resilient_connection.bytes_received,
        resilient_connection.frames_hedged,
    )
    times = []
    for node in range(20, 20 + samples):
        times.append(_round_trip(resilient_connection, node))
        time.sleep(pause_s)
    frames, size = (
        resilient_connection.frames_sent - before[0],
        resilient_connection.bytes_sent + resilient_connection.bytes_received - before[1],
    )
    found.append((times, frames, resilient_connection.frames_hedged - before[2], size))
    resilient_connection.close()


def _round_trip(resilient_connection: _native.ResilientConnection, node: int) -> tuple[float, float]:
    """When the block left, and when its verdict was there."""
    start_s = time.monotonic()
    resilient_connection.send(
        _native.encode_block(
            1,
            first_node=node,
            tokens=np.array([7], dtype=np.int32),
            parents=np.array([0x8000_0000 | node], dtype=np.uint32),
            probabilities=np.array([255], dtype=np.uint8),
        )
    )
    while not isinstance(resilient_connection.receive(None), _native.Verdict):
        pass
    return start_s, time.monotonic()


def measure_plain(pipe: Connection) -> None:
    """As `measure`, over plain TCP connections."""
    while True:
        port, _, samples = pipe.recv()
        times: list[tuple[float, float]] = []
        work = (port, samples // CONNECTIONS, times)
        threads = [threading.Thread(target=_play_plain, args=work) for _ in range(CONNECTIONS)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        pipe.send((times, len(times), 0, 96 * len(times)))


def _play_plain(port: int, samples: int, times: list[tuple[float, float]]) -> None:
    with socket.create_connection((HOSTS[0], port)) as connection:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for _ in range(samples):
            start_s = time.monotonic()
            connection.sendall(secrets.token_bytes(48))
            rest = 48
            while rest:
                rest -= len(connection.recv(rest))
            times.append((start_s, time.monotonic()))


if __name__ == "__main__":
    main()
