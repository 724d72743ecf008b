"""A GGUF file is a target or a draft as a folder is."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("torch")
gguf = pytest.importorskip("gguf")

from edgespec.core.errors import EdgespecError  # noqa: E402
from edgespec.core.tokenizer import Tokenizer  # noqa: E402
from edgespec.engines.export import make_graph  # noqa: E402
from edgespec.engines.model_folder import find_folder, read_weights  # noqa: E402
from edgespec.model.target import Target  # noqa: E402

WIDTH, INNER, LAYERS, HEADS, VOCABULARY = 32, 64, 1, 4, 259


def save_gguf(file: Path) -> Path:
    """A random Llama of bytes and three special tokens."""
    random = np.random.default_rng(1)
    writer = gguf.GGUFWriter(str(file), "llama")
    writer.add_context_length(128)
    writer.add_embedding_length(WIDTH)
    writer.add_block_count(LAYERS)
    writer.add_feed_forward_length(INNER)
    writer.add_head_count(HEADS)
    writer.add_head_count_kv(HEADS)
    writer.add_rope_dimension_count(WIDTH // HEADS)
    writer.add_rope_freq_base(1e4)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_vocab_size(VOCABULARY)
    writer.add_tokenizer_model("llama")
    tokens = ["<unk>", "<s>", "</s>", *(f"<0x{byte:02X}>" for byte in range(256))]
    writer.add_token_list(tokens)
    writer.add_token_scores([0.0] * VOCABULARY)
    writer.add_token_types([2, 3, 3] + [6] * 256)
    writer.add_unk_token_id(0)
    writer.add_bos_token_id(1)
    writer.add_eos_token_id(2)

    def add(name: str, *shape: int) -> None:
        writer.add_tensor(name, random.normal(0, 0.2, shape).astype(np.float32))

    add("token_embd.weight", VOCABULARY, WIDTH)
    add("output.weight", VOCABULARY, WIDTH)
    add("output_norm.weight", WIDTH)
    for layer in range(LAYERS):
        for name in ("attn_q", "attn_k", "attn_v", "attn_output"):
            add(f"blk.{layer}.{name}.weight", WIDTH, WIDTH)
        for name in ("ffn_gate", "ffn_up"):
            add(f"blk.{layer}.{name}.weight", INNER, WIDTH)
        add(f"blk.{layer}.ffn_down.weight", WIDTH, INNER)
        for name in ("attn_norm", "ffn_norm"):
            add(f"blk.{layer}.{name}.weight", WIDTH)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return file


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_gguf(tmp_path_factory.mktemp("gguf") / "tiny.gguf")


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


def test_a_file_and_a_folder_with_one_file_are_the_same_model(file: Path) -> None:
    folder = find_folder(file)
    assert find_folder(file.parent) == folder
    weights = dict(read_weights(folder).named_parameters())
    assert weights["model.embed_tokens.weight"].shape == (VOCABULARY, WIDTH)
    [embedding] = [one for one in gguf.GGUFReader(file).tensors if one.name == "token_embd.weight"]
    assert (weights["model.embed_tokens.weight"].detach().numpy() == embedding.data).all()


def test_it_serves_as_a_target_under_its_own_name(file: Path) -> None:
    target = Target.load(file, None, device="cpu")
    assert target.name == "tiny" and target.end_tokens == (2,) and target.layers == LAYERS
    assert Tokenizer.load(find_folder(file)).vocabulary_hash == target.vocabulary_hash


def test_a_drafts_graph_is_made_of_it(file: Path) -> None:
    """And computes what the model does, or this raises."""
    assert make_graph(read_weights(find_folder(file)), 128, "fp32").shape.vocabulary_size == VOCABULARY


def test_the_folder_is_made_once(file: Path) -> None:
    config = find_folder(file) / "config.json"
    before = config.stat().st_mtime_ns
    assert (find_folder(file) / "config.json").stat().st_mtime_ns == before


def test_a_file_that_is_none_is_one_sentence(tmp_path: Path) -> None:
    broken = tmp_path / "broken.gguf"
    broken.write_bytes(b"GGUF, or so it says")
    with pytest.raises(EdgespecError, match="cannot be read as a model"):
        find_folder(broken)
    assert not list((tmp_path / "cache").rglob("config.json"))
