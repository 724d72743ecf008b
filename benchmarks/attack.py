"""One device attacks a server, or strangers do: what another device's session notices of it.

    python -m benchmarks.attack                     # every attack by itself, then those of a device together
    python -m benchmarks.attack --attacks early,hog --rounds 9

An honest session is decoded by the server alone, text after text, while attack and calm take turns. Each attack's token
gaps (median and 99th percentile) are compared with those of the calm before and after it. A row has the medians over
the attacks of these ratios and of the time until gaps are as before once the attackers have left (recovery_s); and how
long a new session waited for its first token at most, and the server's memory. Every text is compared with the first
one. Exit status 1 if a text differs or a session was cut off.

Times are of the whole machine: other work on it counts as an attack. `strangers` are 10,000 connections that say
nothing and 5,000 that send garbage or drip, as far as the system grants a process as many files (`ulimit -Hn`).
"""

from __future__ import annotations

import multiprocessing
import secrets
import socket
import struct
import sys
import tempfile
import threading
import time
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.attacks import OF_A_DEVICE, OF_STRANGERS, raw_peer, run
from benchmarks.overhead import process_at
from benchmarks.results import Results, Row, options
from edgespec.cli.child import child
from edgespec.core.access import credential
from edgespec.core.tokenizer import Tokenizer
from edgespec.engines.bundled import bundled_engine
from edgespec.engines.draft_engine import load_draft
from edgespec.server.tokens import add_token

NOTES = (
    "Server, attackers and the honest device share one machine; loopback, tokens, no TLS; the bundled target."
)
PROMPT = list(range(10, 90, 10))
LIMITS = {"device": (1.5, 2.0), "stranger": (1.2, 1.5)}
"""The largest ratios of medians and of 99th percentiles that are asked for."""

FIRST_TOKEN_S, RECOVERY_S = 2.0, 1.0
"""The longest that a new session may wait for its first token, and gaps for their old length."""

CALM = 8
"""Gaps in a row whose median is as before the attack show that it is over."""


class Honest(threading.Thread):
    """Texts one after the other, each a new session, until `stop` is set; keeps (when, seconds) of each gap."""

    def __init__(self, port: int, hello: bytes, tokens: int) -> None:
        super().__init__(daemon=True)
        self.gaps: list[tuple[float, float]] = []
        self.first: list[tuple[float, float]] = []
        self.texts: list[list[int]] = []
        self.cut: list[str] = []
        self.stop = threading.Event()
        self._port, self._hello, self._tokens = port, hello, tokens

    def run(self) -> None:
        while not self.stop.is_set():
            try:
                self._text()
            except OSError as error:
                self.cut.append(str(error))

    def _text(self) -> None:
        with raw_peer.RawPeer(self._port) as peer:
            peer.send(self._hello)
            began_s = last_s = time.monotonic()
            text: list[int] = []
            if peer.until(raw_peer.WELCOME) is None:
                raise ConnectionError("not welcomed")
            peer.send(raw_peer.opening(1, secrets.token_bytes(16), PROMPT, max_new_tokens=self._tokens))
            while len(text) < self._tokens and not self.stop.is_set():
                verdict = peer.until(raw_peer.VERDICT, raw_peer.ERROR)
                if verdict is None or verdict.kind == raw_peer.ERROR:
                    raise ConnectionError(
                        "closed" if verdict is None else verdict.payload[16:].decode(errors="replace")
                    )
                now_s = time.monotonic()
                count = struct.unpack_from("<H", verdict.payload, 20)[0]
                text += struct.unpack_from(f"<{count}i", verdict.payload, 24)
                (self.gaps if last_s > began_s else self.first).append((now_s, now_s - last_s))
                last_s = now_s
                peer.send(raw_peer.frame(raw_peer.ACK, channel=1, acknowledge=verdict.sequence))
            if len(text) == self._tokens:
                self.texts.append(text)


class Server:
    """`edgespec serve` with tokens of an honest device and an attacker."""

    def __init__(self, stack: ExitStack, serve: str) -> None:
        tokens = Path(stack.enter_context(tempfile.TemporaryDirectory())) / "tokens"
        shown = {device: credential(add_token(tokens, device)) for device in ("honest", "attacker")}
        vocabulary = Tokenizer.load(load_draft(bundled_engine()).tokenizer_path).vocabulary_hash
        self.hello = {device: raw_peer.hello(vocabulary, token) for device, token in shown.items()}
        metrics = _free_port()
        command = [
            "serve",
            "--port",
            "0",
            "--metrics-port",
            str(metrics),
            "--tokens",
            str(tokens),
            *serve.split(),
        ]
        port = stack.enter_context(child(command, "starting the server ..."))[1]
        self.ports = port, metrics
        self.process = process_at(port)


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as free:
        return int(free.getsockname()[1])


@dataclass(frozen=True)
class Round:
    """One attack of a row: when it began and ended, and the server's memory then."""

    begins_s: float
    ends_s: float
    rss: tuple[int, int]
    acts: int


def attacked(server: Server, names: list[str], arguments: Any) -> Row:
    context = multiprocessing.get_context("spawn")
    pipe, theirs = context.Pipe()
    given = (theirs, server.ports, server.hello["attacker"], names, arguments.acts_a_second)
    attacker = context.Process(target=run, args=given, daemon=True)
    attacker.start()
    clients = pipe.recv()
    honest = Honest(server.ports[0], server.hello["honest"], arguments.tokens)
    honest.start()
    time.sleep(arguments.seconds)
    attacks = [_attack(server, pipe, arguments.seconds) for _ in range(arguments.rounds)]
    honest.stop.set()
    honest.join(60)
    pipe.send("leave")
    attacker.join(10)
    return _row(honest, names, clients, attacks, arguments.seconds)


def _attack(server: Server, pipe: Any, seconds: float) -> Round:
    """And then calm for as long, once everything may have recovered."""
    rss, begins_s = server.process.memory_info().rss, time.monotonic()
    pipe.send("begin")
    time.sleep(seconds)
    most_rss, ends_s = server.process.memory_info().rss, time.monotonic()
    pipe.send("end")
    acts = pipe.recv()
    time.sleep(RECOVERY_S + seconds)
    return Round(begins_s, ends_s, (rss, most_rss), acts)


def _row(honest: Honest, names: list[str], clients: int, attacks: list[Round], seconds: float) -> Row:
    seen = [_seen(honest, attack, seconds) for attack in attacks]
    p50_s, p50_ratio, p99_ratio, recovery_s = (float(np.median(values)) for values in zip(*seen, strict=True))
    limits = LIMITS["stranger" if names[0] in OF_STRANGERS else "device"]
    within = [at for attack in attacks for at in honest.first if attack.begins_s <= at[0] < attack.ends_s + 2]
    first_s = max((waited_s for _, waited_s in within), default=None)
    right = all(text == honest.texts[0] for text in honest.texts)
    return {
        "attack": "+".join(names) if len(names) < 3 else "all of a device",
        "clients": clients,
        "acts": sum(attack.acts for attack in attacks),
        "p50_ms": 1e3 * p50_s,
        "p50_ratio": p50_ratio,
        "p99_ratio": p99_ratio,
        "first_token_s": first_s,
        "recovery_s": recovery_s if np.isfinite(recovery_s) else None,
        "rss_mib": attacks[0].rss[0] >> 20,
        "rss_attacked_mib": max(attack.rss[1] for attack in attacks) >> 20,
        "texts": len(honest.texts),
        "cut": len(honest.cut),
        "within": p50_ratio <= limits[0]
        and p99_ratio <= limits[1]
        and (first_s or 0.0) <= FIRST_TOKEN_S
        and recovery_s <= RECOVERY_S,
        "met": right and not honest.cut and bool(honest.texts),
    }


def _seen(honest: Honest, attack: Round, seconds: float) -> tuple[float, float, float, float]:
    """The median gap in the calm before and after an attack; the ratios of the median and of the 99th percentile in it;
    and the seconds to recover."""
    calm_s = (
        (attack.begins_s - seconds, attack.begins_s),
        (attack.ends_s + RECOVERY_S, attack.ends_s + RECOVERY_S + seconds),
    )
    calm = [gap for at, gap in honest.gaps if any(begins <= at < ends for begins, ends in calm_s)]
    during = [gap for at, gap in honest.gaps if attack.begins_s <= at < attack.ends_s]
    p50, p99 = np.percentile(calm or [np.inf], (50, 99))
    attacked = np.percentile(during or [attack.ends_s - attack.begins_s], (50, 99))
    recovery_s = _recovery_s(honest, attack.ends_s, limit_s=LIMITS["stranger"][0] * float(p50))
    return float(p50), float(attacked[0] / p50), float(attacked[1] / p99), recovery_s


def _recovery_s(honest: Honest, ends_s: float, limit_s: float) -> float:
    """From the attack's end to the first of `CALM` gaps in a row with a median of `limit_s` at most; inf: never."""
    after = [(at, gap) for at, gap in honest.gaps if at >= ends_s]
    calm = (
        at - gap - ends_s
        for i, (at, gap) in enumerate(after[: len(after) - CALM + 1])
        if np.median([gap for _, gap in after[i : i + CALM]]) <= limit_s
    )
    return max(0.0, next(calm, np.inf))


def main() -> int:
    arguments = options(
        "attack",
        __doc__,
        {"attacks": ["early", "chains", "hog", "parameters", "half-open"], "seconds": 2.0, "rounds": 1},
        attacks=([*OF_A_DEVICE, *OF_STRANGERS, "all"], "which; all: those of a device together"),
        seconds=(3.0, "of an attack, and of the calm before and after it"),
        rounds=(3, "of an attack and calm in turn"),
        tokens=(64, "of a text"),
        acts_a_second=(400.0, "of all clients of an attack together"),
        serve=("--threads 1 --kv-memory 512MiB", "options of `edgespec serve`"),
    )
    results = Results("attack", NOTES, arguments.json)
    for name in arguments.attacks:
        with ExitStack() as stack:
            server = Server(stack, arguments.serve)
            results.add(attacked(server, list(OF_A_DEVICE) if name == "all" else [name], arguments))
    return 0 if all(row["met"] for row in results.rows) else 1


if __name__ == "__main__":
    sys.exit(main())
