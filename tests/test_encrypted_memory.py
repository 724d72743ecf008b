"""An encrypted memory: it works as a plain one, shows nothing without its key, and costs speed at most."""

import stat
import struct
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from stubs import StubTarget, serving
from test_memory import SCRIPTED, TEXT, generated, texts_file

from edgespec.core.errors import EdgespecError
from edgespec.core.remembered_texts import PROMPT_TOKENS
from edgespec.edge.memory import Memory
from edgespec.edge.memory_folder import clear_folder, folder_contents
from edgespec.edge.memory_key import make_key
from edgespec.server.server import Server


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with serving(StubTarget(SCRIPTED)) as running:
        yield running


@pytest.fixture
def key(tmp_path: Path) -> Path:
    pytest.importorskip("cryptography")
    make_key(tmp_path / "key")
    return tmp_path / "key"


def test_an_encrypted_memory_remembers_and_shows_nothing(server: Server, tmp_path: Path, key: Path) -> None:
    folder = tmp_path / "memory"
    first, again = (generated(server, Memory(folder, key=key)) for _ in range(2))
    assert first.statistics.remembered == 0 < again.statistics.remembered
    assert again.measurements.forwards > first.measurements.forwards
    plain = struct.pack("<4i", *TEXT[:4])
    for file in folder.iterdir():
        assert plain not in file.read_bytes() and b"rate" not in file.read_bytes()
    assert folder_contents(folder).targets[0].tokens == 2 * (len(TEXT) + PROMPT_TOKENS)
    assert clear_folder(folder) >= 2 and list(folder.iterdir()) == []


@pytest.mark.parametrize("other", ["another key", "no key", "a key for plain files"])
def test_without_its_key_a_memory_is_left_alone_with_one_sentence(
    server: Server, tmp_path: Path, key: Path, other: str
) -> None:
    folder = tmp_path / "memory"
    generated(server, Memory(folder, key=None if other == "a key for plain files" else key))
    before = texts_file(folder).read_bytes()
    make_key(tmp_path / "other")
    events: Any = generated(
        server, Memory(folder, key=None if other == "no key" else tmp_path / "other")
    ).trace
    assert len(events) == 1 and "encrypted" in events[0]
    assert texts_file(folder).read_bytes() == before


def test_a_sealed_text_that_was_changed_is_left_out(tmp_path: Path, key: Path) -> None:
    """Also where its checksum is made to fit."""
    texts = Memory(tmp_path, key=key).texts("a@1", b"v" * 32, 1000)
    texts.add([1, 2, 3])
    texts.add([4, 5, 6])
    data = bytearray(texts_file(tmp_path).read_bytes())
    count, _ = struct.unpack_from("<II", data, 48)
    data[70] ^= 1
    struct.pack_into("<I", data, 52, zlib.crc32(data[56 : 56 + 4 * count]))
    texts_file(tmp_path).write_bytes(data)
    again = Memory(tmp_path, key=key).texts("a@1", b"v" * 32, 1000)
    assert again.index.find([1, 2])[0] == 0 and again.index.find([4, 5]) == (2, 1, [(6, 1)])
    again.add([7, 8, 9])
    assert Memory(tmp_path, key=key).texts("a@1", b"v" * 32, 1000).index.find([7, 8]) == (2, 1, [(9, 1)])


@pytest.mark.parametrize(
    ("content", "mode", "wrong"),
    [(b"no key", 0o600, "holds no key"), (b"ab" * 32, 0o640, "chmod 600"), (None, 0o600, "make one with")],
)
def test_a_file_that_is_no_key_is_refused(
    tmp_path: Path, content: bytes | None, mode: int, wrong: str
) -> None:
    if content is not None:
        (tmp_path / "key").write_bytes(content)
        (tmp_path / "key").chmod(mode)
    with pytest.raises(EdgespecError, match=wrong):
        Memory(tmp_path, key=tmp_path / "key")


def test_a_key_is_its_owners_and_is_not_written_twice(tmp_path: Path) -> None:
    make_key(tmp_path / "key")
    assert stat.S_IMODE((tmp_path / "key").stat().st_mode) == 0o600
    with pytest.raises(EdgespecError, match="already"):
        make_key(tmp_path / "key")
