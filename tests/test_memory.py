"""A device's memory: it makes repeated texts faster, and changes no token, whatever its files hold."""

import os
import random
import stat
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from scripted_models import HashModel
from stubs import StubDraft, StubTarget, play, serving, stub_session

from edgespec import _native
from edgespec.core.lookup import LookupRates
from edgespec.core.measurements import Measurements
from edgespec.drafting.auto import Auto
from edgespec.drafting.modes import policy
from edgespec.edge.memory import MOST_LINKS, Memory, link_key
from edgespec.edge.memory_folder import clear_folder, folder_contents
from edgespec.edge.session import Session
from edgespec.server.server import Server
from edgespec.sim.scripted_model import CalibratedModel
from edgespec.sim.simulation import Timing, simulate

PROMPT = list(range(1, 13))
SCRIPTED = HashModel(draft_right=0.7, exit_right=0.8)
TEXT = SCRIPTED.continuation(PROMPT, 40)
TIMING = Timing(up_ms=lambda: 20.0, down_ms=lambda: 20.0)


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with serving(StubTarget(SCRIPTED)) as running:
        yield running


def session(server: Server, memory: Memory | Path | None, mode: str = "auto") -> Session:
    return stub_session(server.port, scripted=SCRIPTED, mode=mode, draft=StubDraft(SCRIPTED), memory=memory)


def generated(server: Server, memory: Memory | Path | None, mode: str = "auto") -> Session:
    with session(server, memory, mode) as one:
        steps = play(one, PROMPT)
    assert one.tokens == TEXT
    one.trace = [note for step in steps for note in step.events]  # type: ignore[misc]
    return one


def texts_file(folder: Path) -> Path:
    (file,) = folder.glob("texts-*.log")
    return file


@pytest.mark.parametrize("mode", ["auto", "stream"])
def test_a_text_that_comes_again_is_proposed_from_memory(server: Server, tmp_path: Path, mode: str) -> None:
    """Whether a proposal arrives in time is the machine's affair; what it gains then is simulated below."""
    first = generated(server, tmp_path, mode).statistics
    again = generated(server, tmp_path, mode).statistics
    assert first.remembered == 0 < again.remembered


def test_a_next_session_starts_from_what_the_last_one_measured(server: Server, tmp_path: Path) -> None:
    first = generated(server, tmp_path)
    assert first.measurements.forwards > 0
    with session(server, tmp_path) as one:
        assert one.measurements.forwards == first.measurements.forwards
        assert one.measurements.forward_ms.seen == first.measurements.forward_ms.seen


def test_modes_of_others_remember_but_propose_nothing(server: Server, tmp_path: Path) -> None:
    for mode in ("sync", "cloud"):
        generated(server, tmp_path, mode)
        assert generated(server, tmp_path, mode).statistics.remembered == 0
    assert folder_contents(tmp_path).targets[0].texts == 4


def test_nothing_is_written_without_a_memory(server: Server, tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    generated(server, None)
    assert list(tmp_path.iterdir()) == []


def test_only_the_user_may_read_it(server: Server, tmp_path: Path) -> None:
    folder = tmp_path / "memory"
    generated(server, folder)
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert {stat.S_IMODE(file.stat().st_mode) for file in folder.iterdir()} == {0o600}


def damage(data: bytes, how: str) -> bytes:
    rng = random.Random(how)
    at = rng.randrange(60, len(data))
    return {
        "cut": data[:at],
        "bit": data[:at] + bytes([data[at] ^ 16]) + data[at + 1 :],
        "noise": data[:60] + rng.randbytes(5000),
        "short": data[:7],
        "empty": b"",
        "foreign": b"something else\n" * 100,
        "length": data[:48] + b"\xff\xff\xff\x7f" + data[52:],
    }[how]


@pytest.mark.parametrize("how", ["cut", "bit", "noise", "short", "empty", "foreign", "length"])
def test_a_damaged_file_costs_no_token_and_one_warning(server: Server, tmp_path: Path, how: str) -> None:
    generated(server, tmp_path)
    texts_file(tmp_path).write_bytes(damage(texts_file(tmp_path).read_bytes(), how))
    for link in tmp_path.glob("link-*.json"):
        link.write_bytes(damage(link.read_bytes(), how))
    events: Any = generated(server, tmp_path).trace
    assert len([event for event in events if "damaged" in event and "link-" in event]) == 1
    assert len([event for event in events if "this process only" in event]) == (how == "foreign")
    generated(server, tmp_path)
    assert (texts_file(tmp_path).read_bytes()[:9] == b"something") == (how == "foreign")
    assert how == "foreign" or generated(server, tmp_path).statistics.remembered > 0


def test_a_poisoned_memory_costs_no_token(server: Server, tmp_path: Path) -> None:
    """Texts that begin as the right one does and go on wrongly, in a file that adds up."""
    memory = Memory(tmp_path)
    with session(server, memory) as one:
        texts = memory.texts(one.target.target_id, one.tokenizer.vocabulary_hash, one.target.vocabulary_size)
    rng = random.Random(1)
    for _ in range(200):
        start = rng.randrange(len(TEXT))
        texts.add([*PROMPT, *TEXT[:start], *(rng.randrange(50) for _ in range(12))])
    assert generated(server, tmp_path).statistics.remembered > 0


def test_ids_that_the_target_lacks_are_not_believed(tmp_path: Path) -> None:
    Memory(tmp_path).texts("target@1", b"v" * 32, 1000).add([1, 2, 3, 999])
    other = Memory(tmp_path).texts("target@1", b"v" * 32, 1000)
    assert other.index.find([1, 2]) == (2, 1, [(3, 1)])
    file = texts_file(tmp_path)
    Memory(tmp_path).texts("target@1", b"v" * 32, 1000).add([5, 6, 1_000_000])
    assert file.stat().st_size > 0
    assert Memory(tmp_path).texts("target@1", b"v" * 32, 1000).index.find([5, 6])[0] == 0


def test_targets_and_tokenizers_do_not_share_texts(tmp_path: Path) -> None:
    memory = Memory(tmp_path)
    memory.texts("a@1", b"v" * 32, 50).add([1, 2, 3])
    assert len(memory.texts("renamed@1", b"v" * 32, 50).index) > 0
    assert len(memory.texts("a@2", b"v" * 32, 50).index) == 0
    assert len(memory.texts("a@1", b"w" * 32, 50).index) == 0


def test_the_file_stays_within_its_bound_and_keeps_the_newest(tmp_path: Path) -> None:
    memory = Memory(tmp_path, most_bytes=1)
    texts = memory.texts("a@1", b"v" * 32, 10_000)
    for number in range(300):
        texts.add([number, *range(1000, 1030)])
    assert texts_file(tmp_path).stat().st_size < 1.5 * 4 * 1024 + 100
    again = Memory(tmp_path, most_bytes=1).texts("a@1", b"v" * 32, 10_000).index
    assert len(again) > 500 and again.find([299, 1000])[0] == 2 and again.find([3, 1000])[0] == 0


def test_the_newest_links_are_kept(tmp_path: Path) -> None:
    memory = Memory(tmp_path)
    for number in range(MOST_LINKS + 3):
        memory.keep_measurements(bytes([number]) * 8, Measurements())
        os.utime(tmp_path / f"link-{bytes([number]).hex() * 8}.json", (number, number))
    memory.keep_measurements(b"\x01" * 8, Measurements())
    kept = {file.name for file in tmp_path.iterdir()}
    assert kept == {f"link-{bytes([n]).hex() * 8}.json" for n in (1, *range(4, MOST_LINKS + 3))}


def test_two_processes_may_write_at_once(tmp_path: Path) -> None:
    one, other = (Memory(tmp_path).texts("a@1", b"v" * 32, 1000) for _ in range(2))
    for number in range(20):
        one.add([1, number, 500])
        other.add([2, number, 600])
    both = Memory(tmp_path).texts("a@1", b"v" * 32, 1000).index
    assert all(both.find([1, number])[2] == [(500, 1)] for number in range(20))
    assert all(both.find([2, number])[2] == [(600, 1)] for number in range(20))


def test_a_folder_that_cannot_be_used_gives_one_note(server: Server, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("no folder")
    events: Any = generated(server, tmp_path / "file" / "memory").trace
    assert len(events) == 1 and "cannot be used" in events[0]


def test_clearing_deletes_what_the_memory_wrote_and_nothing_else(server: Server, tmp_path: Path) -> None:
    generated(server, tmp_path)
    (tmp_path / "mine.txt").write_text("keep")
    assert clear_folder(tmp_path) >= 2
    assert [file.name for file in tmp_path.iterdir()] == ["mine.txt"]


def test_links_are_told_apart_and_local_servers_by_their_host_alone() -> None:
    from edgespec.core.address import Address

    here = [link_key(Address("127.0.0.1", port), "t@1", "d") for port in (40_000, 50_000, 7433)]
    assert here[0] == here[1] != here[2]
    assert link_key(Address("127.0.0.1", 7433), "t@2", "d") != here[2]


# On the simulated clock


def remembered(*texts: list[int]) -> _native.TextIndex:
    index = _native.TextIndex(1 << 16, 2)
    for text in texts:
        index.add(text)
        index.end_text()
    return index


def test_texts_known_by_heart_take_a_third_of_the_time() -> None:
    scripted = CalibratedModel(0.62)
    cloud = simulate(scripted, policy("cloud"), PROMPT, max_new_tokens=96, timing=TIMING)
    index = remembered([*PROMPT, *cloud.text])
    outcome = simulate(scripted, Auto(), PROMPT, max_new_tokens=96, timing=TIMING, memory=index)
    assert outcome.text == cloud.text
    assert outcome.milliseconds < cloud.milliseconds / 3


def test_a_memory_that_is_never_right_costs_next_to_nothing() -> None:
    """It matches everywhere and is wrong everywhere; what was learnt about it is kept."""
    scripted, rng = CalibratedModel(0.62), random.Random(3)
    plain = simulate(scripted, Auto(), PROMPT, max_new_tokens=200, timing=TIMING)
    text = [*PROMPT, *plain.text]
    index = remembered(
        *([*text[max(0, end - 6) : end], rng.randrange(30_000)] * 2 for end in range(3, len(text)))
    )
    measurements = Measurements()
    poisoned = simulate(
        scripted, Auto(), PROMPT, max_new_tokens=200, timing=TIMING, memory=index, measurements=measurements
    )
    assert poisoned.text == plain.text
    assert poisoned.milliseconds < 1.1 * plain.milliseconds
    kept = replace(measurements, lookup_rates=LookupRates())
    assert kept.lookup_rates != measurements.lookup_rates
