"""What the HTTP API adds to a streamed token: from the verdict's arrival on the device to the token's at the client.

    python -m benchmarks.api --json docs/results/api.json

Device and client run on one machine and share its monotonic clock. The timeline says when a verdict was read; the same
difference is taken with `Session` in this process, and subtracted. `streams` texts at once show the longest time that
one of them got nothing.
"""

import contextlib
import http.client
import json
import sys
import threading
import time
from typing import Any

import numpy as np

from benchmarks.results import Results, options
from edgespec.cli.child import child
from edgespec.core.params import SamplingParams
from edgespec.edge.session import Session
from edgespec.edge.trace import Event
from edgespec.engines.bundled import bundled_engine

PROMPT = "def read_lines(path):\n    "
LIMITS_MS = {50: 0.3, 99: 1.0}
STALL_MS = 250.0


def main() -> int:
    arguments = options("api", __doc__, {"tokens": 32, "streams": 4}, tokens=256, streams=(24, "at once"))
    notes = "Loopback, the bundled pair, one thread for the server; mode `cloud`."
    results = Results("api", notes, arguments.json)
    with contextlib.ExitStack() as stack:
        serve = ["serve", "--port", "0", "--threads", "1"]
        host, port = stack.enter_context(child(serve, "starting the server ..."))
        api = ["api", "--server", f"{host}:{port}", "--port", "0", "--streams", str(arguments.streams)]
        address = stack.enter_context(child(api, "starting the API ..."))
        read(address, arguments.tokens)  # warms up
        delays, _ = read(address, arguments.tokens)
        own = session_delays((host, port), arguments.tokens)
        for share, limit in LIMITS_MS.items():
            added = float(np.percentile(delays, share) - np.percentile(own, share))
            add(results, f"a streamed token beside Session's, p{share}", added, limit)
        add(results, f"longest gap of {arguments.streams} streams", longest_gap(address, arguments), STALL_MS)
    return 0


def add(results: Results, of: str, measured_ms: float, limit_ms: float) -> None:
    verdict = "met" if measured_ms <= limit_ms else "missed"
    results.add({"of": of, "measured_ms": measured_ms, "at most": limit_ms, "target": verdict})


def read(address: tuple[str, int], tokens: int) -> tuple[list[float], list[float]]:
    """One streamed text: each piece's delay since its verdict, and the gaps between pieces, in milliseconds."""
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
    delays, arrivals = [], []
    for line in connection.getresponse():
        now_ms = time.monotonic() * 1e3
        if line.startswith(b"data: {"):
            arrivals.append(now_ms)
            events = json.loads(line[6:])["edgespec"]["events"]
            delays += [now_ms - one["end_ms"] for one in events if one["kind"] == "verdict"]
    connection.close()
    return delays, np.diff(arrivals).tolist()


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


def longest_gap(address: tuple[str, int], arguments: Any) -> float:
    gaps: list[float] = []
    threads = [
        threading.Thread(target=lambda: gaps.extend(read(address, arguments.tokens)[1]))
        for _ in range(arguments.streams)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return max(gaps)


if __name__ == "__main__":
    sys.exit(main())
