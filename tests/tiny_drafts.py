"""Tiny random drafts of the Llama family in Hugging Face format, with a tokenizer, and their engines. Needs torch."""

from __future__ import annotations

import functools
import hashlib
import os
import tempfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

import edgespec
from edgespec.core.errors import EdgespecError
from edgespec.core.slots import Piece
from edgespec.core.whole_files import locked

VOCABULARY = 101
CONTEXT = 400
SHAPE = {
    "vocab_size": VOCABULARY,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 4,
    "max_position_embeddings": CONTEXT,
    "initializer_range": 0.4,
    "tie_word_embeddings": False,
    "bos_token_id": 1,
    "eos_token_id": 2,
}
"""The initializer's range spreads the scores, so that near-ties are rare."""

VICUNA_68M = {
    "vocab_size": 32000,
    "hidden_size": 768,
    "intermediate_size": 3072,
    "num_attention_heads": 12,
    "num_key_value_heads": 12,
    "max_position_embeddings": 2048,
    "initializer_range": 0.02,
}
"""The reference draft's shape."""

LLAMA3_ROPE = {
    "rope_type": "llama3",
    "rope_theta": 1e4,
    "factor": 4.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 128,
}

GROUPED = "llama, tied, grouped"

ONE_LAYER = {"num_hidden_layers": 1}
"""For what a family has in each layer: exporting a second one takes as long as the first."""

FAMILY: dict[str, tuple[str, dict[str, Any]]] = {
    GROUPED: ("Llama", {"tie_word_embeddings": True, "num_key_value_heads": 2}),
    "mistral, every head its own keys": ("Mistral", {"sliding_window": None, **ONE_LAYER}),
    "qwen2, biased projections": ("Qwen2", {"num_key_value_heads": 2, **ONE_LAYER}),
    "qwen3, normed heads, one key head, wide heads, scaled rotation": (
        "Qwen3",
        {"num_key_value_heads": 1, "head_dim": 16, "rope_parameters": LLAMA3_ROPE, **ONE_LAYER},
    ),
}
"""Name -> the class's stem in transformers, and what its config changes in SHAPE."""

VICUNA = "Vicuna-68M"

TEMPLATE = "{% for message in messages %}{{ message.content }}{% endfor %}"

SHARED = "EDGESPEC_TINY_DRAFTS"
"""The variable that names the folder of the first of the run's processes, which the others inherit."""

if SHARED not in os.environ:
    _kept = tempfile.TemporaryDirectory(prefix="edgespec-tiny-drafts-")
    os.environ[SHARED] = _kept.name


@functools.cache
def compiled(name: str = GROUPED, **options: Any) -> Path:
    """A folder with the `model` and the `engine` of a member of the family; made once per run: do not change it."""
    options = {"runtime": "onnxruntime", "progress": False} | options

    def make(folder: Path) -> None:
        save_family_member(folder / "model", name)
        edgespec.compile(folder / "model", folder / "engine", **options)

    return made_once(repr((name, options)), make)


def made_once(name: str, make: Callable[[Path], None]) -> Path:
    """The folder that `make` filled with an `engine` and more, for all processes of the run."""
    folder = Path(os.environ[SHARED], hashlib.sha256(name.encode()).hexdigest()[:16])
    folder.mkdir(exist_ok=True)
    with locked(Path(os.environ[SHARED], f"{folder.name}.lock")):
        if not (folder / "engine").exists():
            make(folder)
    return folder


def save_family_member(folder: Path, name: str = GROUPED) -> Path:
    """Save one of FAMILY, or VICUNA, into `folder`."""
    stem, changes = {**FAMILY, VICUNA: ("Llama", VICUNA_68M)}[name]
    return save_draft(folder, stem, **changes)


def save_draft(folder: Path, stem: str = "Llama", **changes: Any) -> Path:
    """Save a random model, biases and norms too, a word-level tokenizer of its vocabulary, and a chat template."""
    import tokenizers
    import torch
    import transformers

    torch.manual_seed(1)
    config = getattr(transformers, f"{stem}Config")(**{**SHAPE, **changes})
    model = getattr(transformers, f"{stem}ForCausalLM")(config)
    for name, parameter in model.named_parameters():
        if name.endswith("bias") or "norm" in name:
            torch.nn.init.normal_(parameter, 1.0, 0.3)
    model.save_pretrained(folder)
    words = {f"w{token}": token for token in range(config.vocab_size)}
    tokenizers.Tokenizer(tokenizers.models.WordLevel(words, unk_token="w0")).save(
        str(folder / "tokenizer.json")
    )
    (folder / "chat_template.jinja").write_text(TEMPLATE)
    return folder


def contents(folder: Path) -> dict[str, bytes]:
    """Every file below `folder`, hidden ones too."""
    return {str(file.relative_to(folder)): file.read_bytes() for file in folder.rglob("*") if file.is_file()}


def assert_refuses(sentence: str, model: str | Path, out: Path, **options: Any) -> None:
    """compile raises one sentence that matches, and the folder of `out` stays as it was."""
    before = contents(out.parent)
    folders = sorted(out.parent.iterdir())
    with pytest.raises(EdgespecError, match=sentence) as caught:
        edgespec.compile(model, out, progress=False, **options)
    assert "\n" not in str(caught.value)
    assert (contents(out.parent), sorted(out.parent.iterdir())) == (before, folders)


def moved(piece: Piece, order: NDArray[Any]) -> Piece:
    """The same piece with slot i in place order[i]."""
    cached = np.zeros((len(piece), len(order)), dtype=np.bool_)
    used = min(len(order), piece.cached.shape[1])
    cached[:, order[:used]] = piece.cached[:, :used]
    return replace(piece, slots=order[piece.slots].astype(np.int32), cached=cached)
