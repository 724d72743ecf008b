"""What one device, or a stranger, can do to a server: each attack is a process of benchmarks/attack.py.

An attack gets its clients and acts again and again; a client that is thrown out calls again. Frames are written by
tests/raw_peer.py, not by edgespec.
"""

from __future__ import annotations

import itertools
import json
import random
import resource
import secrets
import struct
import time
from collections.abc import Callable
from multiprocessing.connection import Connection

from benchmarks.attacking_client import Client, leave, opening, raw_peer

COMMITTED = 1 << 31
FILL, DRAFT = 1, 32
NODES = 1000
UNACKNOWLEDGED = secrets.token_bytes(16)
ACTS_A_REPLAY = 4  # of a connection: with fewer an address would connect too often

Attack = Callable[[Client], None]


def chains(client: Client) -> None:
    """Blocks of the deepest chain that a session may have, sure of itself and wrong, on every length of the text."""
    if client.number == 0:
        opening(client, [5, 6, 7])
    length, first = 3 + client.number, client.node
    client.node += NODES
    parents = [COMMITTED | length, *range(first, first + NODES - 1)]
    client.send(raw_peer.block(1, client.numbered()[0], first, [4000] * NODES, parents))


def orphans(client: Client) -> None:
    """Blocks of nodes whose parents nobody has."""
    if client.number == 0:
        opening(client, [5, 6, 7])
        client.send(raw_peer.block(1, client.numbered()[0], 1, [5], [COMMITTED]))
    first = client.node = client.node + NODES
    client.send(
        raw_peer.block(1, client.numbered()[0], first, [5] * NODES, list(range(first - 1, first + NODES - 1)))
    )


def tunes(client: Client) -> None:
    if client.number == 0:
        opening(client, [5, 6, 7])
    options = [struct.pack("<IfII", FILL | DRAFT * (n % 2), 0.5, 0, 0) for n in range(100)]
    client.send(
        *(
            raw_peer.frame(raw_peer.TUNE, option, channel=1, sequence=n)
            for option, n in zip(options, client.numbered(100), strict=True)
        )
    )


def empty_blocks(client: Client) -> None:
    """Plain forwards, asked for without end."""
    if client.number == 0:
        opening(client, [5, 6, 7], fill=False)
    client.send(*(raw_peer.block(1, n, 0, [], []) for n in client.numbered(200)))


def turns(client: Client) -> None:
    """Long prompts that are new each time."""
    tokens = [random.randrange(10, 4000) for _ in range(1900)]
    if client.number % 30 == 0:
        client.sequence = 2
        opening(client, tokens, max_new_tokens=1)
        return
    turn = client.number & 0xFFFF
    client.send(raw_peer.append(1, client.numbered()[0], 1, 1, turn, tokens[:1800]))


def crowd(client: Client) -> None:
    """A session that decodes as fast as it can, on each connection."""
    if client.number == 0:
        opening(client, [5, 6, random.randrange(10, 4000)])


def drafted(client: Client) -> None:
    """The same with the server's draft in every forward."""
    if client.number == 0:
        opening(client, [5, 6, random.randrange(10, 4000)])
        client.send(
            raw_peer.frame(
                raw_peer.TUNE,
                struct.pack("<IfII", FILL | DRAFT, 0.5, 0, 0),
                channel=1,
                sequence=client.numbered()[0],
            )
        )


def hog(client: Client) -> None:
    """Sessions that take memory for the longest text and do nothing, kept alive by empty blocks."""
    if client.number == 0:
        opening(client, [5, 6, random.randrange(10, 4000)], max_new_tokens=2**30, fill=False)
    client.send(raw_peer.block(1, client.numbered()[0], 0, [], []))


def promises(client: Client) -> None:
    """Sessions that decode as fast as they can, with latency targets as low as the server grants."""
    if client.number == 0:
        target_us = random.choice([1500, 2500, 4000, 9000, 20_000, 30_000, 60_000])
        opening(client, [5, 6, 7], latency_us=target_us)


def idle_promises(client: Client) -> None:
    """The same of sessions that do nothing."""
    if client.number == 0:
        opening(client, [5, 6, 7], fill=False, latency_us=random.choice([1500, 2500, 4000, 9000, 30000]))


def parameters(client: Client) -> None:
    if client.number % 20 == 0:
        client.sequence = 2
        opening(
            client,
            [5, 6, 7],
            max_new_tokens=4,
            temperature=random.choice([1e300, 5e-324]),
            repetition_penalty=random.choice([1, 1e308]),
        )


def biases(client: Client) -> None:
    """Sessions that decode as fast as they can, each with as many biases as it may have, and penalties."""
    if client.number == 0:
        biased = [(token, 0.01) for token in range(1024)]
        tokens = [5, 6, random.randrange(10, 4000)]
        opening(client, tokens, temperature=1.0, repetition_penalty=1.1, biases=biased)


def guides(client: Client) -> None:
    """Sessions one after the other, each with a JSON schema of its own that takes long to compile."""
    channel = 1 + client.number % 200
    properties = {
        f"p{client.number}_{n}": {"type": "string", "pattern": f"^[a-z]{{{n % 9},40}}$"} for n in range(300)
    }
    section = json.dumps({"guide": {"json_schema": json.dumps({"type": "object", "properties": properties})}})
    opened = raw_peer.opening(channel, secrets.token_bytes(16), [5, 6, 7], sampling=section.encode())
    client.send(opened, raw_peer.frame(raw_peer.CLOSE, bytes(8), channel=channel, sequence=2))


def early(client: Client) -> None:
    """The largest frames, which wait for one that never comes."""
    if client.number == 0:
        opening(client, [5, 6, 7], max_new_tokens=1, fill=False)
    if len(client.rest) < 1 << 20:
        client.send(raw_peer.append(1, 3 + client.number, 1, 1, 1, [0] * 60_000))


def pings(client: Client) -> None:
    client.send(raw_peer.frame(raw_peer.PING, bytes(8)) * 500)


def resumes(client: Client) -> None:
    if client.number == 0:
        opening(client, [5, 6, 7])
    ids = [secrets.token_bytes(16) for _ in range(50)]
    client.send(
        *(raw_peer.frame(raw_peer.RESUME, one + bytes(8), channel=2 + n) for n, one in enumerate(ids))
    )


def replays(client: Client) -> None:
    """One session whose verdicts nobody acknowledges, opened and resumed again on ever new channels and connections."""
    if client.number == ACTS_A_REPLAY:
        raise ConnectionResetError("enough")
    first = 2 + 40 * client.number  # without channel 1, on which a client that leaves says CLOSE
    for channel in range(first, first + 40, 2):
        client.send(
            raw_peer.opening(channel, UNACKNOWLEDGED, [5, 6, 7], max_new_tokens=1500, ignore_end=True),
            raw_peer.frame(raw_peer.RESUME, UNACKNOWLEDGED + bytes(8), channel=channel + 1),
        )


def half_open(client: Client) -> None:
    """Says nothing, and calls again soon."""
    if client.number >= 1:
        raise ConnectionResetError("enough")


def garbage(client: Client) -> None:
    client.send(random.randbytes(64))


def drip(client: Client) -> None:
    """A HELLO of which a byte comes now and then."""
    said = raw_peer.hello(bytes(32))
    client.send(said[client.number : client.number + 1])


def scrapes(client: Client) -> None:
    """Reads the metrics page, and calls again at once."""
    if client.number == 0:
        client.send(b"GET /metrics HTTP/1.0\r\n\r\n")


OF_A_DEVICE: dict[str, tuple[Attack, int]] = {
    "chains": (chains, 4), "orphans": (orphans, 4), "tunes": (tunes, 4), "empty-blocks": (empty_blocks, 8),
    "turns": (turns, 8), "crowd": (crowd, 64), "drafted": (drafted, 16), "hog": (hog, 64), "promises": (promises, 16),
    "idle-promises": (idle_promises, 4), "parameters": (parameters, 8), "biases": (biases, 16), "guides": (guides, 4),
    "early": (early, 36), "pings": (pings, 8), "resumes": (resumes, 8), "replays": (replays, 8),
}  # fmt: skip
"""The attacks of a device that has a token, each with its number of connections."""

OF_STRANGERS: dict[str, tuple[Attack, int]] = {
    "half-open": (half_open, 500), "garbage": (garbage, 64), "drips": (drip, 500), "scrapes": (scrapes, 4),
    "strangers": (half_open, 10_000),
}  # fmt: skip
"""strangers: 10,000 connections that say nothing, from 250 addresses, and 5,000 with garbage and drips.
scrapes: at the metrics port."""

FROM_AN_ADDRESS = 60
SECONDS_A_ROUND = 5.0
"""In which every client acts once at least."""

SPARE_FILES = 100


def run(
    pipe: Connection, ports: tuple[int, int], hello: bytes, names: list[str], acts_a_second: float
) -> None:
    """A process: says how many clients it has; acts from each "begin" on to the next message, and says how often it
    did; ends at any other message. It has no more clients than the system grants it files for. ports: the server's,
    and of its metrics."""
    places = _places(names)
    said = b"" if names[0] in OF_STRANGERS else hello
    port = ports[names == ["scrapes"]]
    rate = max(acts_a_second, len(places) / SECONDS_A_ROUND)
    pipe.send(len(places))
    while pipe.recv() == "begin":
        pipe.send(_act(pipe, port, said, places, rate))


def _act(pipe: Connection, port: int, said: bytes, places: list[Attack], rate: float) -> int:
    """How often they acted until there was a message."""
    clients: list[Client | None] = [None] * len(places)
    acts, due_s = 0, time.monotonic()
    for i in itertools.cycle(range(len(places))):
        if pipe.poll():
            pipe.recv()
            break
        due_s = max(due_s + 1 / rate, time.monotonic() - 1.0)
        time.sleep(max(0.0, due_s - time.monotonic()))
        try:
            client = clients[i] = clients[i] or Client(port, said, _address(i))
            places[i](client)
            client.number += 1
            client.read()
            acts += 1
        except OSError:
            leave(clients[i])
            clients[i] = None
    for client in clients:
        leave(client)
    return acts


def _places(names: list[str]) -> list[Attack]:
    """What each client does."""
    kinds = [(act, count) for name, (act, count) in {**OF_A_DEVICE, **OF_STRANGERS}.items() if name in names]
    if names == ["strangers"]:
        kinds += [(garbage, 2500), (drip, 2500)]
    places = [act for act, count in kinds for _ in range(count)]
    random.Random(1).shuffle(places)
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    return places if hard == resource.RLIM_INFINITY else places[: hard - SPARE_FILES]


def _address(client: int) -> str:
    """Strangers are many: those of a kind that has many come from many addresses of this machine."""
    return f"127.0.0.{1 + client // FROM_AN_ADDRESS % 250}"
