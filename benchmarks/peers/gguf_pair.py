"""A Llama folder of safetensors -> a GGUF file for llama.cpp: `python gguf_pair.py DIR FILE.gguf TYPE`.

TYPE: f32, bf16, in which llama.cpp also rounds what it multiplies the weights by, or q8_0, its 8-bit integers.

It runs in llama.cpp's own environment (the `gguf` package); tokens go by their ids, so the tokenizer only has to load.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import gguf
import numpy as np
from numpy.typing import NDArray

NAMES = {
    "input_layernorm": "attn_norm",
    "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output",
    "post_attention_layernorm": "ffn_norm",
    "mlp.gate_proj": "ffn_gate",
    "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down",
}
"""A layer's tensors: what transformers calls them, and what llama.cpp does."""

OUTSIDE = {
    "model.embed_tokens.weight": "token_embd.weight",
    "model.norm.weight": "output_norm.weight",
    "lm_head.weight": "output.weight",
}
"""The tensors of no layer."""

STORED = {"bf16": gguf.GGMLQuantizationType.BF16, "q8_0": gguf.GGMLQuantizationType.Q8_0}
FILE_TYPES = {
    "f32": gguf.LlamaFileType.ALL_F32,
    "bf16": gguf.LlamaFileType.MOSTLY_BF16,
    "q8_0": gguf.LlamaFileType.MOSTLY_Q8_0,
}


def convert(folder: Path, file: Path, kind: str) -> None:
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    writer = gguf.GGUFWriter(file, "llama")
    _describe(writer, config)
    writer.add_file_type(FILE_TYPES[kind])
    _add_tokenizer(writer, json.loads((folder / "tokenizer.json").read_text(encoding="utf-8")), config)
    heads = {"q_proj": config["num_attention_heads"], "k_proj": config["num_key_value_heads"]}
    for name, tensor in _tensors(folder / "model.safetensors").items():
        module = name.rsplit(".", 2)[-2]
        if module in heads:
            tensor = _interleaved(tensor, heads[module])
        if kind in STORED and tensor.ndim > 1:
            stored = STORED[kind]
            writer.add_tensor(
                _name(name), gguf.quantize(np.ascontiguousarray(tensor), stored), raw_dtype=stored
            )
        else:
            writer.add_tensor(_name(name), np.ascontiguousarray(tensor))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def _describe(writer: gguf.GGUFWriter, config: dict[str, Any]) -> None:
    writer.add_context_length(config["max_position_embeddings"])
    writer.add_embedding_length(config["hidden_size"])
    writer.add_block_count(config["num_hidden_layers"])
    writer.add_feed_forward_length(config["intermediate_size"])
    writer.add_head_count(config["num_attention_heads"])
    writer.add_head_count_kv(config["num_key_value_heads"])
    writer.add_rope_dimension_count(config["head_dim"])
    writer.add_rope_freq_base(config["rope_parameters"]["rope_theta"])
    writer.add_layer_norm_rms_eps(config["rms_norm_eps"])
    writer.add_vocab_size(config["vocab_size"])


def _add_tokenizer(writer: gguf.GGUFWriter, tokenizer: dict[str, Any], config: dict[str, Any]) -> None:
    model = tokenizer["model"]
    if "merges" not in model:  # a stand-in tokenizer of whole words: only ids go in and out
        writer.add_tokenizer_model("none")
        return
    ids = dict(model["vocab"]) | {token["content"]: token["id"] for token in tokenizer["added_tokens"]}
    special = {token["id"] for token in tokenizer["added_tokens"] if token["special"]}
    tokens = sorted(ids, key=lambda token: ids[token])
    kinds = [gguf.TokenType.CONTROL if ids[token] in special else gguf.TokenType.NORMAL for token in tokens]
    merges = [merge if isinstance(merge, str) else " ".join(merge) for merge in model["merges"]]
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("gpt-2")
    writer.add_token_list(tokens)
    writer.add_token_types(kinds)
    writer.add_token_merges(merges)
    writer.add_bos_token_id(config["bos_token_id"])
    writer.add_eos_token_id(config["eos_token_id"])
    writer.add_add_bos_token(False)


def _tensors(file: Path) -> dict[str, NDArray[np.float32]]:
    """The file's tensors as float32; safetensors' own numpy reader knows no bfloat16."""
    content = file.read_bytes()
    start = 8 + int.from_bytes(content[:8], "little")
    found = {}
    for name, entry in json.loads(content[8:start]).items():
        if name == "__metadata__":
            continue
        begin, end = entry["data_offsets"]
        stored = content[start + begin : start + end]
        if entry["dtype"] == "F32":
            found[name] = np.frombuffer(stored, dtype="<f4").reshape(entry["shape"])
        elif entry["dtype"] == "BF16":
            halves = np.frombuffer(stored, dtype="<u2")
            found[name] = (halves.astype("<u4") << 16).view("<f4").reshape(entry["shape"])
        else:
            raise SystemExit(f"{name} in {file} is {entry['dtype']}: only F32 and BF16 are converted here.")
    return found


def _interleaved(weight: NDArray[np.float32], heads: int) -> NDArray[np.float32]:
    """Rows of a head: first half, second half -> pairs, which is how llama.cpp rotates."""
    halves = weight.reshape(heads, 2, weight.shape[0] // heads // 2, weight.shape[1])
    return halves.swapaxes(1, 2).reshape(weight.shape)


def _name(name: str) -> str:
    if not name.startswith("model.layers."):
        return OUTSIDE[name]
    _, _, layer, module = name.removesuffix(".weight").split(".", 3)
    return f"blk.{layer}.{NAMES[module]}.weight"


if __name__ == "__main__":
    convert(Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3])
