"""Parity: do the graph and the engine compute what the transformers model computes? Checked at every build.

Only the best few scores leave the graph, so these are compared: each must be the model's own score of that token, and
the first must be the model's best, both up to a bound that is small against the spread of the scores.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from edgespec.core.pictures import PictureSpan, SeenRows, rotary_positions
from edgespec.core.pixel_scale import PixelScale
from edgespec.core.slots import SlotMap
from edgespec.core.tree import DraftTree
from edgespec.engines.draft_engine import DraftEngine
from edgespec.engines.draft_graph import DraftGraph

TEXT_LENGTH = 32
BEFORE, BEHIND = 5, 4
"""Tokens around a picture."""

LAST_ROWS = 6
"""Rows of the text that run one by one behind the others."""

BOUNDS = {"float32": 1e-3, "float16": 0.03, "int8": 0.35}
"""By the type in which matrices multiply: how far scores may differ, as a share of the standard deviation of the
model's scores. Floats stay below a tenth of it, int8 below a third."""


def graph_difference(model: Any, graph: DraftGraph, capacity: int) -> str | None:
    """How the torch graph differs from the model, at both ends of its positions; None: not at all."""
    rows = min(TEXT_LENGTH, capacity)
    tokens = _text(model, rows)
    for start in {0, capacity - rows}:
        positions = torch.arange(start, start + rows)
        expected = _logits(model, tokens, positions)
        eyes = graph.shape.eyes
        no_picture = () if eyes is None else (torch.zeros(rows).bool(), torch.zeros(rows, eyes.features))
        with torch.no_grad():
            best, scores, _ = graph(
                tokens.int(),
                positions.int() if eyes is None else positions.int().repeat(3, 1),
                torch.zeros(rows, 0, dtype=torch.bool),
                torch.ones(rows, rows, dtype=torch.bool).tril(),
                torch.arange(rows, dtype=torch.int32),
                torch.zeros(1, expected.shape[-1]),
                torch.zeros(rows, dtype=torch.int32),
                torch.tensor(1.0),
                *no_picture,
                graph.empty_cache(0),
            )
        bound = BOUNDS[str(graph.compute).removeprefix("torch.")]
        difference = score_difference(expected, best.numpy(), scores.numpy(), bound)
        if difference is not None:
            return difference
    return None


def engine_difference(model: Any, engine: DraftEngine, relative_bound: float) -> str | None:
    """How a fresh engine differs from the model, a chunk of rows and then row by row; None: not at all."""
    rows = min(TEXT_LENGTH, engine.capacity)
    tokens = _text(model, rows)
    logits = _logits(model, tokens, torch.arange(rows))
    slots, tree = SlotMap(engine.capacity), DraftTree(rows)
    text: list[int] = tokens.tolist()
    results = []
    for length in range(max(1, rows - LAST_ROWS), rows + 1):
        results.append(engine.run(slots.plan(text, length, tree, []), None, None, 1.0))
    best, scores = (np.concatenate(parts) for parts in zip(*results, strict=True))
    return score_difference(logits, best, scores, relative_bound)


def picture_difference(
    model: Any, engine: DraftEngine, scale: PixelScale, relative_bound: float
) -> str | None:
    """How a fresh engine that sees differs from the model on a text with a random picture; None: not at all."""
    eyes = engine.eyes
    assert eyes is not None
    shape, placeholder = eyes.shape, int(model.config.image_token_id)
    pixels = np.random.default_rng(0).integers(0, 256, (shape.height, shape.width, 3)).astype(np.uint8)
    text = _text(model, BEFORE + shape.rows + BEHIND)
    text[text == placeholder] = 0
    text[BEFORE : BEFORE + shape.rows] = placeholder
    span = PictureSpan(BEFORE, shape.rows, shape.height, shape.width, bytes(32))
    if engine.capacity < len(text):
        return f"a picture takes {shape.rows} of the {engine.capacity} rows that the engine holds"
    with torch.no_grad():
        own = model(
            input_ids=text[None], use_cache=False, **_inputs(model, pixels, scale, text == placeholder)
        )
    piece = SlotMap(engine.capacity).plan(text.tolist(), len(text), DraftTree(len(text)), [])
    features = np.zeros((len(text), shape.features), np.float32)
    features[span.first_row : span.end] = eyes.encode(pixels)
    axes = rotary_positions([span], piece.positions, shape.cell).astype(np.int32)
    seen = SeenRows(axes, (text == placeholder).numpy(), features)
    decide = np.arange(span.end, len(text), dtype=np.int32)
    best, scores = engine.run(replace(piece, seen=seen), None, None, 1.0, decide)
    return score_difference(own.logits[0, span.end :].numpy(), best, scores, relative_bound)


def _inputs(
    model: Any, pixels: NDArray[np.uint8], scale: PixelScale, is_picture: torch.Tensor
) -> dict[str, torch.Tensor]:
    """What Qwen2-VL's own forward reads of a picture: patches, those of a cell behind one another, as often as it has
    frames."""
    vision = model.config.vision_config
    patch, merge = vision.patch_size, vision.spatial_merge_size
    down, across = (side // patch for side in pixels.shape[:2])
    cut = scale(pixels).reshape(3, down // merge, merge, patch, across // merge, merge, patch)
    patches = np.repeat(
        cut.transpose(1, 4, 2, 5, 0, 3, 6)[..., None, :, :], vision.temporal_patch_size, axis=-3
    )
    return {
        "pixel_values": torch.from_numpy(patches.reshape(down * across, -1)),
        "image_grid_thw": torch.tensor([[1, down, across]]),
        "mm_token_type_ids": is_picture[None].long(),
    }


def score_difference(
    logits: NDArray[np.float32], best: NDArray[np.int32], scores: NDArray[np.float32], relative_bound: float
) -> str | None:
    """What is wrong with best tokens [R, K] and their scores, given the true logits [R, V]; None: nothing."""
    bound = relative_bound * float(logits.std())
    true_scores = np.take_along_axis(logits, best.astype(np.int64), axis=1)
    off = float(np.abs(true_scores - scores).max())
    short = float((logits.max(axis=1) - true_scores[:, 0]).max())
    if not off <= bound:
        return f"scores are off by {off:.2g}, the bound is {bound:.2g}"
    if not short <= bound:
        return f"a best token is {short:.2g} below the model's, the bound is {bound:.2g}"
    return None


def _logits(model: Any, tokens: torch.Tensor, positions: torch.Tensor) -> NDArray[np.float32]:
    """[R, V]."""
    with torch.no_grad():
        found = model(input_ids=tokens.unsqueeze(0), position_ids=positions.unsqueeze(0), use_cache=False)
    logits: NDArray[np.float32] = found.logits[0].numpy()
    return logits


def _text(model: Any, length: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.randint(0, model.config.get_text_config().vocab_size, (length,), generator=generator)
