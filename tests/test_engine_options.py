"""Where `edgespec serve` finds what lies beside the weights of its target."""

from __future__ import annotations

from pathlib import Path

import pytest

from edgespec.cli.engine import Model
from edgespec.core.errors import EdgespecError


def test_llamacpp_takes_the_tokenizer_beside_the_gguf_file(tmp_path: Path) -> None:
    file = tmp_path / "model-q4.gguf"
    file.write_bytes(b"weights that nothing but llama.cpp reads")
    (tmp_path / "tokenizer.json").write_text("{}")
    (tmp_path / "generation_config.json").write_text('{"do_sample": true, "top_k": 40}')
    model = Model(target=str(file), engine="llamacpp")
    assert model.folder() == tmp_path == Model(target=str(tmp_path), engine="llamacpp").folder()
    assert model.sampling_defaults() == {"top_k": 40, "temperature": 1.0}


def test_llamacpp_without_a_gguf_file_is_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(EdgespecError, match="no GGUF file"):
        Model(target=str(tmp_path / "missing.gguf"), engine="llamacpp").folder()
