"""Many synthetic devices on one server, for a chosen time: is every text right, is memory flat, is nobody
stuck?

python benchmarks/soak.py --minutes 30 --devices 64
python benchmarks/soak.py --minutes 1 --devices 16 --deterministic

Devices join, think, prompt, go on for a turn, break off in the middle or vanish without a word; some are
slow. The server runs in float64, or with --deterministic, so that every text must be what it is alone. Exit
status 1 where a text differs, a session is stuck, or memory grows by more than 5 % after the first fifth of
the time.
"""

from __future__ import annotations

import argparse
import json
import random
import re
import sys
import threading
import time
import urllib.request
from dataclasses import dataclass, field

import numpy as np
import psutil  # type: ignore[import-untyped]
from replay import device, finish
from rich.console import Console

from edgespec.child import child
from edgespec.edge.tokenizer import Tokenizer
from edgespec.errors import EdgespecError
from edgespec.params import SamplingParams
from edgespec.target.loading import find_folder

PROMPTS = 12
TOKENS = 40
STUCK_S = 60.0
MODES = ("sync", "cloud", "preempt", "auto")
METRICS_PORT = 29433


@dataclass
class Tally:
    """What the devices saw; guarded by `lock`."""

    texts: int = 0
    broken_off: int = 0
    refused: int = 0
    different: list[str] = field(default_factory=list)
    stuck: list[str] = field(default_factory=list)
    token_ms: list[float] = field(default_factory=list)
    lock: threading.Lock = field(default_factory=threading.Lock)


def main() -> int:
    arguments = _arguments()
    tokenizer = Tokenizer.load(find_folder(None))
    serve = [
        "serve",
        "--port",
        "0",
        "--threads",
        "2",
        "--metrics-port",
        str(METRICS_PORT),
        "--kv-memory",
        "1GiB",
    ]
    serve += ["--deterministic"] if arguments.deterministic else ["--dtype", "float64"]
    with child(serve, "starting the server ...") as address:
        process = _server_process(address[1])
        texts = [_alone(address, tokenizer, number) for number in range(PROMPTS)]
        tally, until_s = Tally(), time.monotonic() + 60 * arguments.minutes
        threads = [
            threading.Thread(
                target=_live, args=(address, tokenizer, texts, number, until_s, tally), daemon=True
            )
            for number in range(arguments.devices)
        ]
        for thread in threads:
            thread.start()
        memory = _watch(process, until_s)
        for thread in threads:
            thread.join(STUCK_S)
        time.sleep(1.0)
        left = len(_sessions())
    return _report(tally, memory, sum(thread.is_alive() for thread in threads), left)


def _params(number: int) -> SamplingParams:
    return SamplingParams(
        temperature=(0.0, 0.8)[number % 2], seed=number, max_new_tokens=TOKENS, ignore_eos=True
    )


def _prompt(number: int) -> list[int]:
    """Half of them begin alike, as a fleet's do."""
    shared = np.random.default_rng(0).integers(10, 4000, 150) if number % 2 else np.empty(0, dtype=np.int64)
    own = np.random.default_rng(number).integers(10, 4000, 20 + 10 * number)
    return [int(token) for token in [*shared, *own]]


def _alone(address: tuple[str, int], tokenizer: Tokenizer, number: int) -> list[int]:
    prompt = _prompt(number)
    return prompt + finish(device(address, tokenizer, _params(number), "cloud"), prompt)


def _live(
    address: tuple[str, int],
    tokenizer: Tokenizer,
    texts: list[list[int]],
    number: int,
    until_s: float,
    tally: Tally,
) -> None:
    """A device's life: text after text, with time to think between them."""
    chance = random.Random(number)
    while time.monotonic() < until_s:
        which, mode, fate = chance.randrange(PROMPTS), chance.choice(MODES), chance.random()
        draft_ms = chance.choice((2.0, 6.0, 30.0))
        try:
            _one_text(address, tokenizer, texts[which], which, mode, fate, draft_ms, tally)
        except EdgespecError as error:
            with tally.lock:
                tally.refused += 1
            if "full" not in str(error):
                print(f"device {number}: {error}", file=sys.stderr)
        time.sleep(chance.expovariate(1.0))


def _one_text(
    address: tuple[str, int],
    tokenizer: Tokenizer,
    text: list[int],
    which: int,
    mode: str,
    fate: float,
    draft_ms: float,
    tally: Tally,
) -> None:
    """fate: below 0.1 it is cancelled, below 0.2 its device vanishes; else it is played to its end."""
    drafts = [] if mode == "cloud" else text
    session = device(address, tokenizer, _params(which), mode, drafts, draft_ms=draft_ms)
    prompt = _prompt(which)
    session.prompt(prompt)
    last_s = start_s = time.monotonic()
    while not session.finished:
        step = session.step(timeout_s=1.0)
        now_s = time.monotonic()
        if step.tokens:
            with tally.lock:
                tally.token_ms += [(now_s - last_s) * 1e3 / len(step.tokens)] * len(step.tokens)
            last_s = now_s
        if now_s - start_s > STUCK_S:
            with tally.lock:
                tally.stuck.append(f"{mode}, prompt {which}")
            break
        if fate < 0.2 and len(session.tokens) > 10:
            break
    with tally.lock:
        tally.texts += session.finished
        tally.broken_off += not session.finished
        if session.tokens != text[len(prompt) :][: len(session.tokens)]:
            tally.different.append(f"{mode}, prompt {which}")
    session.close()


def _watch(process: psutil.Process, until_s: float) -> list[float]:
    """The server's resident memory, MiB, every second."""
    memory = []
    while time.monotonic() < until_s:
        memory.append(process.memory_info().rss / 2**20)
        time.sleep(1.0)
    return memory


def _server_process(port: int) -> psutil.Process:
    """The child that listens there."""
    for process in psutil.Process().children(recursive=True):
        if any(
            c.laddr.port == port and c.status == psutil.CONN_LISTEN for c in process.net_connections("tcp")
        ):
            return process
    raise EdgespecError("the server's process cannot be found.")


def _sessions() -> list[dict[str, object]]:
    with urllib.request.urlopen(f"http://127.0.0.1:{METRICS_PORT}/sessions", timeout=10) as answer:
        sessions: list[dict[str, object]] = json.load(answer)
        return sessions


def _report(tally: Tally, memory: list[float], hanging: int, left: int) -> int:
    console = Console()
    settled = memory[len(memory) // 5 :]
    growth = max(settled) / settled[0] - 1
    median, high = np.percentile(tally.token_ms, [50, 99]) if tally.token_ms else (0.0, 0.0)
    console.print(
        f"texts {tally.texts}, broken off {tally.broken_off}, refused {tally.refused}, sessions left {left}"
    )
    console.print(f"differing texts {len(tally.different)}, stuck {len(tally.stuck) + hanging}")
    console.print(f"milliseconds a token: median {median:.0f}, p99 {high:.0f}")
    console.print(
        f"resident memory {memory[0]:.0f} MiB at first, {settled[0]:.0f} settled, {growth:+.1%} at most since"
    )
    for line in sorted(set(tally.different + tally.stuck)):
        console.print(re.sub(r"\s+", " ", line))
    return 1 if tally.different or tally.stuck or hanging or growth > 0.05 else 0


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0] if __doc__ else None)
    parser.add_argument("--minutes", type=float, default=30.0)
    parser.add_argument("--devices", type=int, default=64)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--deterministic", action="store_true")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
