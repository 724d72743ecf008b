"""Fair shares: whatever one holder takes, another finds something, and memory comes back from who has most."""

from __future__ import annotations

from collections import Counter
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgespec.core.shares import holder_of, may_take, must_give
from edgespec.server import pictures as picture_room
from edgespec.server import work_in_turns
from edgespec.server.pictures import EncodedPictures, Pictures
from edgespec.server.tokenizer_offer import TokenizerOffer

names = st.sampled_from(["greedy", "other", "third"])


@given(st.integers(8, 300), st.lists(st.tuples(names, st.booleans()), max_size=400))
def test_however_devices_take_and_give_back_a_newcomer_finds_one(
    most: int, steps: list[tuple[str, bool]]
) -> None:
    held: Counter[str] = Counter()
    for who, takes in steps:
        if not takes:
            held[who] = max(0, held[who] - 1)
        elif may_take(held[who], held.total(), most):
            held[who] += 1
            assert held[who] == 1 or held[who] <= 3 * (most - held.total())
        assert may_take(0, held.total(), most), "four holders fit into eight, whatever they do"


@given(st.integers(8, 1000))
def test_alone_a_device_has_three_quarters(most: int) -> None:
    held = 0
    while may_take(held, held, most):
        held += 1
    assert 3 * most // 4 - 1 <= held <= 3 * most // 4
    assert may_take(0, held, most)


def test_memory_comes_back_from_who_has_most_and_more_than_an_equal_share() -> None:
    held = {"greedy": 90, "other": 10}
    assert must_give(held, held, "new", 10) == "greedy"
    assert must_give(held, held, "other", 10) == "greedy"
    assert must_give(held, held, "greedy", 10) is None
    assert must_give(held, ["other"], "new", 10) is None, "it has less than an equal share"
    assert must_give({"one": 10, "two": 10}, ["one", "two"], "new", 10) is None
    assert must_give(held, held, "new", 95) is None, "it would have more than the largest has"


@given(st.dictionaries(names, st.integers(0, 100)), st.integers(1, 100))
def test_taking_memory_back_comes_to_an_end(held: dict[str, int], more: int) -> None:
    """Whoever has to give loses a piece; in the end the asker has its memory or nobody has more than it would."""
    steps = 0
    while (largest := must_give(held, held, "asker", more)) is not None:
        assert held[largest] > 0
        held[largest] -= 1
        steps += 1
        assert steps <= 300


def test_a_tenant_holds_for_its_devices() -> None:
    assert holder_of({"zebra", "tenant blue"}) == "tenant blue"
    assert holder_of({"zebra"}) == "zebra"
    assert holder_of(()) == ""


def test_encoded_pictures_of_the_device_that_has_most_go_first() -> None:
    kept = EncodedPictures(limit=10)
    kept.put(b"other", b"one", SimpleNamespace(bytes=2))
    for i in range(100):
        kept.put(b"greedy", bytes([i]), SimpleNamespace(bytes=1))
    assert kept.get(b"other", b"one") is not None
    assert kept.get(b"greedy", bytes([91])) is None and kept.get(b"greedy", bytes([92])) is not None
    assert kept.get(b"other", bytes([99])) is None, "another device's are not found"


def test_devices_take_turns_at_the_pictures_encoder(monkeypatch: pytest.MonkeyPatch) -> None:
    """The encoder is held until all wait; each picture is its own decoder's result here."""
    order: list[str] = []
    calls: list[Any] = []
    target: Any = SimpleNamespace(
        encode_picture=lambda file: order.append(file.decode()) or SimpleNamespace(bytes=1)
    )
    monkeypatch.setattr(picture_room.picture_files, "decode", lambda file: file)
    pictures = Pictures(target, SimpleNamespace(table={}), calls.append)  # type: ignore[arg-type]
    monkeypatch.setattr(work_in_turns, "ThreadPoolExecutor", lambda *_: SimpleNamespace(submit=run))

    def run(function: Any, *arguments: Any) -> None:
        function(*arguments)

    for holder, count in (("greedy", 4), ("honest", 2)):
        session: Any = SimpleNamespace(
            holder=holder, state=SimpleNamespace(waiting_for=0), identity=b"", number=1
        )
        for i in range(count):
            pictures._encode(
                session, SimpleNamespace(file=f"{holder} {i}".encode(), span=SimpleNamespace(sha256=b""))
            )  # type: ignore[arg-type]
    while calls:
        calls.pop(0)()
    assert order == ["greedy 0", "greedy 1", "honest 0", "greedy 2", "honest 1", "greedy 3"]


def test_a_device_fetches_the_tokenizer_a_few_times_however_many_connections_it_has() -> None:
    rates = TokenizerOffer(None).rates
    assert [rates.take(b"greedy", 0.0) for _ in range(5)] == [True] * 3 + [False] * 2
    assert rates.take(b"other", 0.0), "each device by itself"
    assert rates.take(b"greedy", 20.0) and not rates.take(b"greedy", 20.0), "a part more in twenty seconds"
