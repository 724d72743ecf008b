"""docs/wire-format.md names the limits that the server enforces and announces."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from stubs import StubTarget

from edgespec import _native
from edgespec.core.messages import Block
from edgespec.core.server_options import ServerOptions
from edgespec.core.tokenizer_archive import NO_HASH
from edgespec.core.tree import COMMITTED_BIT, MAX_NODE
from edgespec.server.frames import welcome_frame
from edgespec.verifying.received_tree import BadBlock
from edgespec.verifying.verifier import Verifier, VerifierLimits

DOCUMENT = (Path(__file__).parent.parent / "docs" / "wire-format.md").read_text(encoding="utf-8")
EXPONENTS = str.maketrans("⁰¹²³⁴⁵⁶⁷⁸⁹", "0123456789")


def numbers(pattern: str) -> list[int]:
    """The numbers in the document's only place like this; `2³⁰` and `4096` alike."""
    (found,) = re.findall(pattern, DOCUMENT)
    texts = [found] if isinstance(found, str) else found
    powers = [re.fullmatch("2([⁰¹²³⁴⁵⁶⁷⁸⁹]+)", text) for text in texts]
    return [
        2 ** int(power[1].translate(EXPONENTS)) if power else int(text)
        for text, power in zip(texts, powers, strict=True)
    ]


def verifier() -> Verifier:
    return Verifier([1, 2, 3], 50, ServerOptions(), VerifierLimits(100))


def test_the_largest_node_id_is_the_documents() -> None:
    (beyond,) = numbers(r"An edge gives its nodes ids from 1 to (2[⁰-⁹¹²³]+) − 1")
    verifier().receive(Block(beyond - 1, [10], [COMMITTED_BIT | 3], [1.0]))
    with pytest.raises(BadBlock, match=f"end at {beyond - 1}"):
        verifier().receive(Block(beyond, [10], [COMMITTED_BIT | 3], [1.0]))


def test_the_servers_own_ids_are_the_documents() -> None:
    first, beyond = numbers(r"Ids from (2[⁰-⁹¹²³]+) to (2[⁰-⁹¹²³]+) − 1 belong to nodes that the server adds")
    session = verifier()
    assert session.received.suggest([(7, 0.5)]) == [first]
    assert beyond - 1 == MAX_NODE


def test_welcome_announces_the_number_of_waiting_nodes_that_the_server_enforces() -> None:
    (limit,) = numbers(r"waiting for verification \(edgespec's server: (\d+)\)")
    welcome = _native.decode(welcome_frame(StubTarget(), False, NO_HASH, {}))  # type: ignore[arg-type]
    assert isinstance(welcome, _native.Welcome) and welcome.max_block_nodes == limit
    chain = [COMMITTED_BIT | 3, *range(1, limit)]
    session = verifier()
    session.receive(Block(1, [9] * limit, chain, [0.9] * limit))
    with pytest.raises(BadBlock, match=f"more than {limit} nodes"):
        session.receive(Block(limit + 1, [9], [limit], [0.9]))
