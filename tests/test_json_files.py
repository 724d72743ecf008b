"""Other people's JSON files and templates: whatever is wrong with one is said in a sentence."""

from __future__ import annotations

from pathlib import Path

import pytest

from edgespec.core.errors import EdgespecError
from edgespec.core.json_files import read_object
from edgespec.core.tokenizer import Tokenizer
from edgespec.core.whole_files import save_json
from edgespec.engines.model_folder import PAIR_FOLDER


def test_a_file_that_is_not_there_holds_nothing(tmp_path: Path) -> None:
    assert read_object(tmp_path / "a.json", "mend it") == {}


@pytest.mark.parametrize("content", [b"{", b"[1]", b"7", b"\xff{}", b'{"a": "\xe4"}', b"[" * 100_000, b""])
def test_a_file_without_an_object_is_refused_with_what_to_do(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "a.json").write_bytes(content)
    with pytest.raises(EdgespecError, match=r"a\.json .*: mend it\.$"):
        read_object(tmp_path / "a.json", "mend it")


@pytest.mark.parametrize("name", ["tokenizer_config.json", "config.json", "generation_config.json"])
@pytest.mark.parametrize("content", [b"\xff\xfe", b"[]", b"{"])
def test_a_damaged_file_beside_a_tokenizer_is_named(tmp_path: Path, name: str, content: bytes) -> None:
    (tmp_path / "tokenizer.json").write_bytes((PAIR_FOLDER / "draft" / "tokenizer.json").read_bytes())
    (tmp_path / name).write_bytes(content)
    with pytest.raises(EdgespecError, match=name):
        Tokenizer.load(tmp_path)


def test_a_chat_template_in_another_encoding_is_named(tmp_path: Path) -> None:
    (tmp_path / "tokenizer.json").write_bytes((PAIR_FOLDER / "draft" / "tokenizer.json").read_bytes())
    save_json({}, tmp_path / "tokenizer_config.json")
    (tmp_path / "chat_template.jinja").write_bytes("{{ messages }} ä".encode("latin-1"))
    with pytest.raises(EdgespecError, match=r"chat_template\.jinja is no text"):
        Tokenizer.load(tmp_path)
