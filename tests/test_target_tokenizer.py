"""A device takes the target's tokenizer, chat template and recommended sampling from the server."""

from __future__ import annotations

import json
import zipfile
from collections.abc import Iterator
from contextlib import closing
from io import BytesIO
from pathlib import Path
from typing import Any

import pytest
from stubs import OWN, StubTarget, TargetWithTokenizer, serving

from edgespec import SamplingParams, Session, _native
from edgespec.core import tokenizer_archive as archives
from edgespec.core.address import Address
from edgespec.core.errors import EdgespecError
from edgespec.core.generation_config import sampling_defaults, with_defaults
from edgespec.core.params import ParameterError
from edgespec.edge import tokenizer as fetching
from edgespec.edge.handshake import connect
from edgespec.edge.link_options import LinkOptions
from edgespec.edge.tokenizer import ask_target

FILES = {"tokenizer.json": b'{"version": "1.0"}', "chat_template.jinja": b"{{ messages }}"}


def test_an_archive_holds_the_files_that_its_hash_names() -> None:
    assert archives.unpack(archives.pack(FILES), archives.hash_of(FILES)) == FILES


def test_the_hash_depends_on_names_and_contents_only() -> None:
    assert archives.hash_of(dict(reversed(FILES.items()))) == archives.hash_of(FILES)
    moved = {"tokenizer.json": FILES["chat_template.jinja"], "chat_template.jinja": FILES["tokenizer.json"]}
    assert archives.hash_of(moved) != archives.hash_of(FILES)


@pytest.mark.parametrize("archive", [b"", b"no archive", archives.pack(FILES)[:-30]])
def test_a_broken_archive_is_an_error(archive: bytes) -> None:
    with pytest.raises(EdgespecError, match="cannot be read"):
        archives.unpack(archive, archives.hash_of(FILES))


def test_an_archive_of_another_hash_is_an_error() -> None:
    with pytest.raises(EdgespecError, match="another tokenizer"):
        archives.unpack(archives.pack({**FILES, "tokenizer.json": b"{}"}), archives.hash_of(FILES))


def test_a_file_that_grows_without_bound_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(archives, "MAX_FILE_BYTES", 1000)
    with pytest.raises(EdgespecError, match="more than 1000 bytes"):
        archives.unpack(archives.pack({"tokenizer.json": bytes(1001)}), archives.NO_HASH)


def test_other_files_of_an_archive_are_passed_over() -> None:
    content = BytesIO(archives.pack(FILES))
    with zipfile.ZipFile(content, "a") as archive:
        archive.writestr("../../escaped", b"no")
    assert archives.unpack(content.getvalue(), archives.hash_of(FILES)) == FILES


def test_the_makers_sampling_is_read_where_they_sample(tmp_path: Path) -> None:
    config = {"do_sample": True, "temperature": 0.6, "top_p": 0.9, "eos_token_id": 2, "top_k": None}
    (tmp_path / "generation_config.json").write_text(json.dumps(config))
    assert sampling_defaults(tmp_path) == {"temperature": 0.6, "top_p": 0.9}


def test_a_model_whose_makers_do_not_sample_is_greedy(tmp_path: Path) -> None:
    config = {"temperature": 0.6, "repetition_penalty": 1.1}
    (tmp_path / "generation_config.json").write_text(json.dumps(config))
    assert sampling_defaults(tmp_path) == {"repetition_penalty": 1.1}


def test_what_is_chosen_goes_before_what_is_recommended() -> None:
    recommended = {"temperature": 0.6, "top_p": 0.9, "unknown": 1}
    assert with_defaults({"temperature": 0.2}, recommended) == SamplingParams(temperature=0.2, top_p=0.9)
    with pytest.raises(ParameterError, match="temperature"):
        with_defaults({}, {"temperature": -1})


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    return tmp_path


@pytest.fixture(scope="module")
def servers() -> Iterator[list[Address]]:
    with serving(TargetWithTokenizer()) as server:
        yield [Address("127.0.0.1", server.port)]


def no_download(*_: object) -> bytes:
    raise AssertionError("it was fetched")


def test_a_session_without_a_draft_needs_no_model_file(cache: Path, servers: list[Address]) -> None:
    with Session(servers, params=SamplingParams(max_new_tokens=4), mode="cloud") as session:
        session.prompt("def main():\n    ")
        list(session)
        assert session.prompt_tokens == OWN.encode("def main():\n    ")
        assert session.tokenizer.path is not None and cache in session.tokenizer.path.parents


def test_a_tokenizer_is_fetched_once(
    cache: Path, servers: list[Address], monkeypatch: pytest.MonkeyPatch
) -> None:
    first = ask_target(servers, LinkOptions()).tokenizer
    assert first.path is not None and cache in first.path.parents
    monkeypatch.setattr(fetching, "_download", no_download)
    assert ask_target(servers, LinkOptions()).tokenizer.encode("def f(x):") == OWN.encode("def f(x):")


def test_a_damaged_copy_is_fetched_again(cache: Path, servers: list[Address]) -> None:
    kept = ask_target(servers, LinkOptions()).tokenizer.path
    assert kept is not None and cache in kept.parents
    kept.write_text("{}")
    assert ask_target(servers, LinkOptions()).tokenizer.encode("def f(x):") == OWN.encode("def f(x):")


def test_a_draft_with_the_same_files_needs_nothing_from_the_server(
    cache: Path, servers: list[Address], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert cache.is_dir()
    monkeypatch.setattr(fetching, "_download", no_download)
    assert ask_target(servers, LinkOptions(), OWN).tokenizer is OWN


def test_a_server_without_a_tokenizer_says_what_to_give() -> None:
    with (
        serving(StubTarget()) as server,
        pytest.raises(EdgespecError, match="offers no tokenizer: give"),
    ):
        Session(("127.0.0.1", server.port), mode="cloud")


def test_a_connection_that_fetches_without_end_is_refused(servers: list[Address]) -> None:
    link, welcome = connect(servers, archives.NO_HASH, LinkOptions())
    asked = _native.encode_fetch(tokenizer_hash=welcome.tokenizer_hash, first_byte=0)
    with closing(link):
        while isinstance(answer := _answer(link, asked), _native.File):
            assert len(answer.content) <= answer.total_bytes
        assert answer.code == _native.ErrorCode.LIMIT


def _answer(link: _native.ResilientConnection, asked: bytes) -> Any:
    link.ask(asked)
    return link.receive(10.0)


@pytest.mark.parametrize("first_byte", [1 << 30, 2**32 - 1])
def test_a_part_beyond_the_end_is_refused(servers: list[Address], first_byte: int) -> None:
    link, welcome = connect(servers, archives.NO_HASH, LinkOptions())
    with closing(link):
        answer = _answer(
            link, _native.encode_fetch(tokenizer_hash=welcome.tokenizer_hash, first_byte=first_byte)
        )
        assert answer.code == _native.ErrorCode.PARAMETER


def test_a_session_samples_as_the_server_recommends_unless_told_otherwise() -> None:
    recommended = {"temperature": 0.7, "top_p": 0.8}
    with serving(TargetWithTokenizer(), sampling_defaults=recommended) as server:
        address = ("127.0.0.1", server.port)
        with Session(address, mode="cloud", tokenizer=OWN) as session:
            assert (session.params.temperature, session.params.top_p) == (0.7, 0.8)
        with Session(address, params={"temperature": 0.0}, mode="cloud", tokenizer=OWN) as session:
            assert (session.params.temperature, session.params.top_p) == (0.0, 0.8)
        with Session(address, params=SamplingParams(), mode="cloud", tokenizer=OWN) as session:
            assert session.params.temperature == 0.0
