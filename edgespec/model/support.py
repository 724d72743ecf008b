"""Which models can be a target: causal ones whose only memory of a token is keys and values at a rotary
position.

What is known not to fit is refused by name before its weights are read; for the rest a self-check against the
model's own plain forward decides when it is loaded.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, Protocol

import numpy as np
import torch

from edgespec.core.errors import EdgespecError
from edgespec.core.slots import SLOT_BUCKET, Piece
from edgespec.model.kv_cache import TargetCache
from edgespec.model.masks import small_window

ADVICE = "use a rotary causal model, such as Llama, Qwen, Mistral or Gemma"

ALIBI = {"bloom", "mpt"}
LEARNED_POSITIONS = {
    "gpt2",
    "gpt_bigcode",
    "gpt_neo",
    "gpt-sw3",
    "openai-gpt",
    "opt",
    "biogpt",
    "ctrl",
    "xglm",
}
STATE_SPACE = {
    "mamba",
    "mamba2",
    "falcon_mamba",
    "rwkv",
    "xlstm",
    "recurrent_gemma",
    "jamba",
    "zamba",
    "zamba2",
}
KEY_VALUE_LAYERS = {"full_attention", "sliding_attention"}

TOLERANCE = {torch.float64: 1e-5, torch.float32: 2e-3, torch.bfloat16: 0.15, torch.float16: 0.05}
"""Largest difference of logits in the self-check, as a share of their spread, by dtype. (transformers
computes norms and rotations in float32 whatever the model's dtype.)"""

PREFIX, NODES, WINDOW = 6, 8, 4


class UnsupportedModel(EdgespecError):
    """A model that cannot be a target."""


def check_config(config: Any, name: str) -> None:
    """Raise UnsupportedModel when the model's (text) config shows that it cannot be a target."""
    reason = _refusal(config)
    if reason is not None:
        raise UnsupportedModel(
            f"{name} ({config.model_type}) {reason}, which edgespec cannot verify trees with: {ADVICE}."
        )


def context_length(config: Any, name: str) -> int:
    """Tokens of context: up to where LongRoPE would change its rotations, since cached keys keep theirs."""
    length = getattr(config, "max_position_embeddings", None)
    if not isinstance(length, int) or length < 2:
        raise UnsupportedModel(
            f"{name} does not say how long its context is: set max_position_embeddings in config.json."
        )
    if "longrope" in _rope_types(config):
        length = min(length, _original_length(config) or length)
    return length


def check_modules(model: Any, name: str) -> None:
    """Raise UnsupportedModel when the loaded model has no rotary embedding (GPT-J has one, but no module)."""
    has_module = any("rotary" in type(module).__name__.lower() for module in model.modules())
    if not has_module and not getattr(model.config, "rotary_dim", None):
        raise UnsupportedModel(f"{name} ({type(model).__name__}) has no rotary position embedding: {ADVICE}.")


class Checked(Protocol):
    """What the self-check needs of a target."""

    model: Any
    name: str
    dtype: torch.dtype
    device: torch.device
    vocabulary_size: int

    def open_cache(self, capacity: int) -> TargetCache: ...

    def logits(self, cache: TargetCache, piece: Piece, decide: np.ndarray[Any, Any]) -> torch.Tensor: ...

    def logits_batch(
        self, pieces: Sequence[tuple[TargetCache, Piece, np.ndarray[Any, Any]]]
    ) -> torch.Tensor: ...


def self_check(target: Checked) -> None:
    """A small random tree on permuted slots must have the logits of its chains.

    Sliding windows are narrowed meanwhile, so that the short text shows them. Raises UnsupportedModel where
    logits differ by more than the dtype's tolerance.
    """
    config = target.model.config.get_text_config()
    try:
        with small_window(config, WINDOW), torch.inference_mode():
            difference = float(np.max(list(_differences(target))))
    except EdgespecError:
        raise
    except Exception as error:
        raise UnsupportedModel(
            f"{target.name} ({type(target.model).__name__}) does not run on a slot cache "
            f"({type(error).__name__}: {first_line(error)}): {ADVICE}."
        ) from error
    if not difference <= TOLERANCE[target.dtype]:
        raise UnsupportedModel(
            f"{target.name} ({type(target.model).__name__}) computes a draft tree otherwise than its "
            f"chains (they differ by {difference:.2g} of the logits' spread, and may by "
            f"{TOLERANCE[target.dtype]:.2g}): {ADVICE}."
        )


def check_independence(target: Checked) -> None:
    """A deterministic target's logits must be the same bits whatever runs beside them. Raises
    UnsupportedModel."""
    random = np.random.default_rng(1)
    pieces = []
    for length in (PREFIX + NODES, 3, NODES):
        tokens = random.integers(0, target.vocabulary_size, length)
        slots = random.permutation(SLOT_BUCKET)[:length].astype(np.int32)
        paths = [list(range(row + 1)) for row in range(length)]
        pieces.append((_piece(tokens, paths, slots, range(length)), np.arange(length)))
    with torch.inference_mode():
        alone = [target.logits(target.open_cache(SLOT_BUCKET), *piece) for piece in pieces]
        beside = [(target.open_cache(SLOT_BUCKET), *piece) for piece in reversed(pieces)]
        together = target.logits_batch(beside)
    if not torch.equal(torch.cat(alone[::-1]), together):
        raise UnsupportedModel(
            f"{target.name} in {str(target.dtype).removeprefix('torch.')} does not compute the same bits in every "
            "company on this machine: leave --deterministic off, or try another --dtype."
        )


def first_line(error: Exception) -> str:
    """What a library's error says, as a part of a sentence."""
    return (str(error).strip() or type(error).__name__).splitlines()[0].rstrip(".: ")


def _differences(target: Checked) -> Iterator[float]:
    """For each node of a random tree: how far its logits are from those of its chain in a plain forward."""
    random = np.random.default_rng(0)
    tokens = random.integers(0, target.vocabulary_size, PREFIX + NODES)
    parents = np.array(
        [*range(-1, PREFIX - 1), *(random.integers(PREFIX - 1, i) for i in range(PREFIX, PREFIX + NODES))]
    )
    slots = random.permutation(SLOT_BUCKET)[: PREFIX + NODES].astype(np.int32)
    paths = [_path(parents, row) for row in range(len(tokens))]
    cache = target.open_cache(SLOT_BUCKET)
    target.logits(cache, _piece(tokens, paths, slots, range(PREFIX)), np.arange(PREFIX))
    piece = _piece(tokens, paths, slots, range(PREFIX, PREFIX + NODES))
    tree = target.logits(cache, piece, np.arange(NODES)).double()

    for node, row in enumerate(tree, PREFIX):
        chain = torch.from_numpy(tokens[paths[node]]).to(target.device)
        expected = target.model(input_ids=chain[None], use_cache=False).logits[0, -1].double()
        yield float((row - expected).abs().max() / (expected.std() + 1e-9))


def _piece(
    tokens: np.ndarray[Any, Any], paths: list[list[int]], slots: np.ndarray[Any, Any], rows: range
) -> Piece:
    positions = np.array([len(path) - 1 for path in paths], dtype=np.int32)
    cached = np.zeros((len(rows), SLOT_BUCKET), dtype=np.bool_)
    among = np.zeros((len(rows), len(rows)), dtype=np.bool_)
    for i, row in enumerate(rows):
        for ancestor in paths[row]:
            if ancestor in rows:
                among[i, ancestor - rows.start] = True
            else:
                cached[i, slots[ancestor]] = True
    slot_positions = np.zeros(SLOT_BUCKET, dtype=np.int32)
    slot_positions[slots] = positions
    chosen = slice(rows.start, rows.stop)
    return Piece(
        tokens[chosen].astype(np.int32), positions[chosen], slots[chosen], cached, among, slot_positions
    )


def _path(parents: np.ndarray[Any, Any], row: int) -> list[int]:
    path = [row]
    while parents[path[-1]] >= 0:
        path.append(int(parents[path[-1]]))
    return path[::-1]


def _refusal(config: Any) -> str | None:
    kind = config.model_type
    layer_types = set(getattr(config, "layer_types", None) or ())
    if getattr(config, "is_encoder_decoder", False):
        return "is an encoder-decoder model"
    if kind in ALIBI or getattr(config, "alibi", False):
        return "encodes positions with ALiBi"
    if kind in LEARNED_POSITIONS:
        return "has learned or absolute positions"
    if kind in STATE_SPACE:
        return "keeps a recurrent (state-space) state"
    if layer_types & {"linear_attention", "conv", "hybrid", "hybrid_sliding", "moe"}:
        return "has linear-attention, convolution or state-space layers"
    if layer_types - KEY_VALUE_LAYERS:
        return f"has layers of {', '.join(sorted(layer_types - KEY_VALUE_LAYERS))}"
    if "dynamic" in _rope_types(config):
        return "has dynamically scaled rotary positions, whose rotations change with the text's length"
    return None


def _rope_types(config: Any) -> set[str]:
    """The rotary types of the config; some models have one for each layer type."""
    return {str(part.get("rope_type", "default")) for part in _rope_parameters(config)}


def _original_length(config: Any) -> int | None:
    lengths = [part.get("original_max_position_embeddings") for part in _rope_parameters(config)]
    lengths.append(getattr(config, "original_max_position_embeddings", None))
    return min((length for length in lengths if isinstance(length, int)), default=None)


def _rope_parameters(config: Any) -> list[dict[str, Any]]:
    parameters = getattr(config, "rope_parameters", None) or getattr(config, "rope_scaling", None) or {}
    nested = [part for part in parameters.values() if isinstance(part, dict)]
    return nested or [parameters]


def decoder_layers(model: Any, count: int) -> torch.nn.ModuleList:
    """The decoder's layers, wherever the model keeps them. Raises EdgespecError."""
    for module in model.get_decoder().modules():
        if isinstance(module, torch.nn.ModuleList) and len(module) == count:
            return module
    raise EdgespecError(
        f"{type(model).__name__} keeps its {count} decoder layers where edgespec cannot find them."
    )
