"""What the HTTP API adds to a streamed token: from the verdict's arrival on the device to the token's at the client.

    python -m benchmarks.api --json docs/results/api.json

Device and client run on one machine and share its monotonic clock. The timeline says when a verdict was read; the same
difference is taken with `Session` in this process, and subtracted. The API's processor time for a token is beside it.
`streams` texts at once show the longest time that one of them got nothing, and whether each is the text that it is
alone. `clients` open a stream each and read nothing: what the API's memory grows by.
"""

import contextlib
import http.client
import json
import socket
import sys
import threading
import time
from typing import Any

import numpy as np
import psutil  # type: ignore[import-untyped]

from benchmarks.results import Results, options
from edgespec.cli.child import child, started
from edgespec.core.params import SamplingParams
from edgespec.edge.session import Session
from edgespec.edge.trace import Event
from edgespec.engines.bundled import bundled_engine

SIZES: dict[str, Any] = {"tokens": 256, "streams": (32, "at once"), "clients": (1000, "that read nothing")}
QUICK = {"tokens": 32, "streams": 4, "clients": 50}
PROMPT = "def read_lines(path):\n    "
LIMITS_MS = {50: 0.3, 99: 1.0}
STALL_MS = 250.0
CLIENTS_MIB = 128.0
SETTLED_S = 5.0
"""What clients that read nothing are given has been written by then."""


def main() -> int:
    arguments = options("api", __doc__, QUICK, **SIZES)
    notes = "Loopback, the bundled pair, one thread for the server; mode `cloud`."
    results = Results("api", notes, arguments.json)
    with contextlib.ExitStack() as stack:
        serve = ["serve", "--port", "0", "--threads", "1"]
        host, port = stack.enter_context(child(serve, "starting the server ..."))
        api = ["api", "--server", f"{host}:{port}", "--port", "0", "--streams", str(arguments.streams)]
        door = stack.enter_context(started(api, "starting the API ..."))
        address, process = door.address, psutil.Process(door.process.pid)
        read(address, arguments.tokens)  # warms up
        before_s = cpu_s(process)
        delays, _, alone = read(address, arguments.tokens)
        cpu_ms = (cpu_s(process) - before_s) * 1e3 / len(delays)
        own = session_delays((host, port), arguments.tokens)
        for share, limit in LIMITS_MS.items():
            added = float(np.percentile(delays, share) - np.percentile(own, share))
            add(results, f"a streamed token beside Session's, p{share}", added, limit)
        results.add({"of": "processor time of the API for a streamed token", "measured_ms": cpu_ms})
        gap_ms, others = longest_gap(address, arguments, alone)
        add(results, f"longest gap of {arguments.streams} streams", gap_ms, STALL_MS)
        add(results, "texts among them that differ from the text alone", others, 0, "count")
        growth = memory_growth(address, process, arguments.clients)
        add(results, f"memory for {arguments.clients} clients that read nothing", growth, CLIENTS_MIB, "mib")
    return 0


def add(results: Results, of: str, measured: float, limit: float, unit: str = "ms") -> None:
    verdict = "met" if measured <= limit else "missed"
    results.add({"of": of, f"measured_{unit}": measured, "at most": limit, "target": verdict})


def cpu_s(process: psutil.Process) -> float:
    times = process.cpu_times()
    return float(times.user + times.system)


def memory_growth(address: tuple[str, int], process: psutil.Process, clients: int) -> float:
    """MiB. Each client asks for a long text and reads nothing of it."""
    body = json.dumps({"prompt": PROMPT, "max_tokens": 1000, "stream": True, "logprobs": 20}).encode()
    head = f"POST /v1/completions HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: {len(body)}\r\n"
    request = head.encode() + b"Content-Type: application/json\r\n\r\n" + body
    before = process.memory_info().rss
    most = before
    with contextlib.ExitStack() as stack:
        for _ in range(clients):
            peer = stack.enter_context(socket.create_connection(address, timeout=60))
            peer.sendall(request)
        end_s = time.monotonic() + SETTLED_S
        while time.monotonic() < end_s:
            most = max(most, process.memory_info().rss)
            time.sleep(0.1)
    return float(most - before) / (1 << 20)


def read(address: tuple[str, int], tokens: int) -> tuple[list[float], list[float], str]:
    """One streamed text: each piece's delay since its verdict, and the gaps between pieces, in ms; and the text."""
    asked: dict[str, Any] = {
        "prompt": PROMPT,
        "max_tokens": tokens,
        "temperature": 0,
        "stream": True,
        "ignore_eos": True,
    }
    body = json.dumps({**asked, "edgespec": {"mode": "cloud", "timeline": True}})
    connection = http.client.HTTPConnection(*address)
    connection.request("POST", "/v1/completions", body, {"Content-Type": "application/json"})
    delays, arrivals, pieces = [], [], []
    for line in connection.getresponse():
        now_ms = time.monotonic() * 1e3
        if line.startswith(b"data: {"):
            arrivals.append(now_ms)
            chunk = json.loads(line[6:])
            pieces.append(chunk["choices"][0]["text"])
            events = chunk["edgespec"]["events"]
            delays += [now_ms - one["end_ms"] for one in events if one["kind"] == "verdict"]
    connection.close()
    return delays, np.diff(arrivals).tolist(), "".join(pieces)


def session_delays(server: tuple[str, int], tokens: int) -> list[float]:
    trace: list[Event] = []
    params = SamplingParams(max_new_tokens=tokens, ignore_eos=True)
    delays = []
    with Session(server, bundled_engine(), params, mode="cloud", trace=trace) as session:
        session.prompt(PROMPT)
        for _ in session:
            now_s = time.monotonic()
            delays += [(now_s - one.end_s) * 1e3 for one in trace if one.kind == "verdict"]
            trace.clear()
    return delays


def longest_gap(address: tuple[str, int], arguments: Any, alone: str) -> tuple[float, int]:
    """Milliseconds, and how many texts differ from the one that was written alone."""
    gaps: list[float] = []
    texts: list[str] = []

    def one() -> None:
        _, own_gaps, text = read(address, arguments.tokens)
        gaps.extend(own_gaps)
        texts.append(text)

    threads = [threading.Thread(target=one) for _ in range(arguments.streams)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return max(gaps), sum(text != alone for text in texts)


if __name__ == "__main__":
    sys.exit(main())
