"""A Llama folder of safetensors -> a GGUF file for llama.cpp: `python gguf_pair.py DIR FILE.gguf TYPE`.

TYPE: f32; bf16 or q8_0, in which llama.cpp also rounds what it multiplies the weights by. It runs in llama.cpp's own
environment (the `gguf` package); tokens go by their ids, so the tokenizer only has to load.
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
    "model.embed_tokens": "token_embd",
    "model.norm": "output_norm",
    "lm_head": "output",
}
"""A layer's tensors, then those of no layer: what transformers calls them, and what llama.cpp does."""

TYPES = {
    "f32": (gguf.LlamaFileType.ALL_F32, gguf.GGMLQuantizationType.F32),
    "bf16": (gguf.LlamaFileType.MOSTLY_BF16, gguf.GGMLQuantizationType.BF16),
    "q8_0": (gguf.LlamaFileType.MOSTLY_Q8_0, gguf.GGMLQuantizationType.Q8_0),
}
"""The file's, and that of its matrices."""


def convert(folder: Path, file: Path, kind: str) -> None:
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    writer = gguf.GGUFWriter(file, "llama")
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
    file_type, stored = TYPES[kind]
    writer.add_file_type(file_type)
    _add_tokenizer(writer, json.loads((folder / "tokenizer.json").read_text(encoding="utf-8")), config)
    heads = {"q_proj": config["num_attention_heads"], "k_proj": config["num_key_value_heads"]}
    for name, tensor in _tensors(folder / "model.safetensors").items():
        module = name.rsplit(".", 2)[-2]
        tensor = np.ascontiguousarray(_interleaved(tensor, heads[module]) if module in heads else tensor)
        if kind != "f32" and tensor.ndim > 1:
            writer.add_tensor(_name(name), gguf.quantize(tensor, stored), raw_dtype=stored)
        else:
            writer.add_tensor(_name(name), tensor)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def _add_tokenizer(writer: gguf.GGUFWriter, tokenizer: dict[str, Any], config: dict[str, Any]) -> None:
    model, added = tokenizer["model"], tokenizer["added_tokens"]
    ids = dict(model["vocab"]) | {token["content"]: token["id"] for token in added}
    special = {token["id"] for token in added if token["special"]}
    tokens = sorted(ids, key=lambda token: ids[token])
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("gpt-2")
    writer.add_token_list(tokens)
    writer.add_token_types(
        [gguf.TokenType.CONTROL if ids[one] in special else gguf.TokenType.NORMAL for one in tokens]
    )
    writer.add_token_merges([one if isinstance(one, str) else " ".join(one) for one in model["merges"]])
    writer.add_bos_token_id(config["bos_token_id"])
    writer.add_eos_token_id(config["eos_token_id"])
    writer.add_add_bos_token(False)


def _tensors(file: Path) -> dict[str, NDArray[np.float32]]:
    """The file's tensors as float32; safetensors' own numpy reader knows no bfloat16."""
    content = file.read_bytes()
    start = 8 + int.from_bytes(content[:8], "little")
    found = {}
    for name, entry in json.loads(content[8:start]).items():
        if name != "__metadata__":
            begin, end = entry["data_offsets"]
            bits = np.frombuffer(
                content[start + begin : start + end], dtype="<u4" if entry["dtype"] == "F32" else "<u2"
            )
            widened = bits if entry["dtype"] == "F32" else bits.astype("<u4") << 16  # else it is BF16
            found[name] = widened.view("<f4").reshape(entry["shape"])
    return found


def _interleaved(weight: NDArray[np.float32], heads: int) -> NDArray[np.float32]:
    """Rows of a head: first half, second half -> pairs, which is how llama.cpp rotates."""
    halves = weight.reshape(heads, 2, weight.shape[0] // heads // 2, weight.shape[1])
    return halves.swapaxes(1, 2).reshape(weight.shape)


def _name(name: str) -> str:
    module = name.removesuffix(".weight")
    if not module.startswith("model.layers."):
        return f"{NAMES[module]}.weight"
    _, _, layer, module = module.split(".", 3)
    return f"blk.{layer}.{NAMES[module]}.weight"


if __name__ == "__main__":
    convert(Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3])
