"""Whether a device can measure what another one has asked: the time to the first token behind guesses of its prompts.

    python -m benchmarks.prefix_probe               # 200 guesses, as many right as wrong, in a drawn order

A row has the median times behind right and wrong guesses and the probability that two samples of the same times differ
as much (Mann-Whitney): above 0.05 they cannot be told apart. `own`: the device's own prompts, asked again, beside new
ones; there the difference is seen, which shows that the measurement can see it. Exit status 1 if a guess can be told
apart. Times are of the whole machine: other work on it hides differences, so see that `own` is far below 0.05.
"""

from __future__ import annotations

import secrets
import sys
import time
from contextlib import ExitStack

import numpy as np
from scipy.stats import mannwhitneyu

from benchmarks.attack import Server, raw_peer
from benchmarks.results import Results, Row, options

NOTES = "Server and devices share one machine; loopback, tokens, no TLS; the bundled target."
VOCABULARY = 4000
INDISTINGUISHABLE = 0.05


class Device:
    """Opens sessions one after the other on one connection."""

    def __init__(self, stack: ExitStack, server: Server, name: str) -> None:
        self._peer = stack.enter_context(raw_peer.RawPeer(server.ports[0]))
        self._peer.send(server.hello[name])
        self._peer.until(raw_peer.WELCOME)
        self._channel = 0

    def ask(self, prompt: list[int]) -> float:
        """Milliseconds to the first token behind a prompt."""
        self._channel += 1
        asked = raw_peer.opening(self._channel, secrets.token_bytes(16), prompt, max_new_tokens=1)
        begins_s = time.monotonic()
        self._peer.send(asked)
        answer = self._peer.until(raw_peer.VERDICT, raw_peer.ERROR)
        took_ms = 1e3 * (time.monotonic() - begins_s)
        if answer is None or answer.kind != raw_peer.VERDICT:
            raise RuntimeError("the server refused a guess: ask for fewer")
        self._peer.send(raw_peer.frame(raw_peer.CLOSE, bytes(8), channel=self._channel, sequence=2))
        return took_ms


def row(what: str, known: list[float], new: list[float]) -> Row:
    return {
        "guesses": what,
        "right_ms": float(np.median(known)),
        "wrong_ms": float(np.median(new)),
        "count": len(known) + len(new),
        "p": float(mannwhitneyu(known, new).pvalue),
    }


def main() -> int:
    arguments = options(
        "prefix_probe",
        __doc__,
        {"guesses": 20},
        guesses=(200, "right and wrong together"),
        prefix_tokens=(129, "of a prompt"),
        serve=("--threads 1 --kv-memory 512MiB", "options of `edgespec serve`"),
    )
    results, draw = Results("prefix_probe", NOTES, arguments.json), np.random.default_rng(5)

    def prompt() -> list[int]:
        return draw.integers(10, VOCABULARY, arguments.prefix_tokens).tolist()

    times: dict[str, tuple[list[float], list[float]]] = {"another's": ([], []), "own": ([], [])}
    with ExitStack() as stack:
        server = Server(stack, arguments.serve)
        asks, guesses = (Device(stack, server, name) for name in ("honest", "attacker"))
        for device in (asks, guesses):
            device.ask(prompt())  # what is made once has been made
        for _ in range(arguments.guesses // 2):
            asked, new = prompt(), prompt()
            asks.ask(asked)
            for right in draw.permutation([True, False]):
                times["another's"][0 if right else 1].append(guesses.ask(asked if right else new))
            for own in draw.permutation([True, False]):
                times["own"][0 if own else 1].append(guesses.ask(new if own else prompt()))
    for what, (known, unknown) in times.items():
        results.add(row(what, known, unknown))
    return 0 if results.rows[0]["p"] > INDISTINGUISHABLE else 1


if __name__ == "__main__":
    sys.exit(main())
