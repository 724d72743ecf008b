"""The self-check of a vision-language model: a text with a picture must have the logits of the model's own forward.

Equal tokens would prove little: a model that reads a picture wrongly often says the same. So logits are compared.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch

from edgespec.core.pictures import PictureSpan
from edgespec.core.slots import SLOT_BUCKET, SlotMap
from edgespec.core.tree import ROOT, DraftTree
from edgespec.model.model_runner import CHECK_PAGES, ModelRunner
from edgespec.model.self_check import check, difference
from edgespec.model.target_engine import PlacedPicture, SessionRows
from edgespec.model.vision import VisionEncoder

BEFORE, BEHIND = 5, 4
"""Tokens around the picture."""


def check_picture(runner: ModelRunner, vision: VisionEncoder) -> None:
    """A picture within a text, then a small draft tree behind it. Raises UnsupportedModel."""
    check(
        runner,
        "computes a text with a picture otherwise than transformers does",
        lambda: _differences(runner, vision),
    )


def _differences(runner: ModelRunner, vision: VisionEncoder) -> Iterator[float]:
    """For the text's last token and each node of a tree behind it: how far its logits are from those of the model's own
    forward over the same tokens and pixels."""
    random, model, form = np.random.default_rng(2), runner.model, vision.format
    cell = form.cell
    height, width = form.size(cell, 2 * cell) if cell else (form.height, form.width)
    rows = form.rows_of(height, width)
    pixels = random.integers(0, 256, (height, width, 3)).astype(np.uint8)
    text = random.integers(0, model.vocabulary_size, BEFORE + rows + BEHIND)
    text[text == form.placeholder] = (form.placeholder + 1) % model.vocabulary_size
    text[BEFORE : BEFORE + rows] = form.placeholder
    picture = PlacedPicture(PictureSpan(BEFORE, rows, height, width, bytes(32)), vision.encode(pixels))
    inputs = vision.inputs(pixels)

    tree = DraftTree(len(text))
    for node, parent in ((1, ROOT), (2, ROOT), (3, 2)):
        tree.add(node, parent, int(random.integers(0, model.vocabulary_size // 2)), 1.0)
    runner.resize_pool(CHECK_PAGES + len(text) // SLOT_BUCKET)
    slots = SlotMap((len(text) + 8 + SLOT_BUCKET - 1) // SLOT_BUCKET * SLOT_BUCKET)
    cache = runner.open_cache(slots.capacity)
    first = (
        BEFORE + rows if vision.mutual else BEFORE + rows // 2
    )  # a picture may be cut, where its rows are causal
    prompt = slots.plan(text.tolist(), first, DraftTree(first), [])
    runner.logits([SessionRows(cache, prompt, np.zeros(0, np.int64), pictures=[picture])])
    piece = slots.plan(text.tolist(), len(text), tree, [1, 2, 3])
    decide = np.arange(len(piece) - 4, len(piece))
    logits = runner.logits([SessionRows(cache, piece, decide, pictures=[picture])])
    for row, node in zip(logits, (ROOT, 1, 2, 3), strict=True):
        chain = torch.tensor([[*text.tolist(), *tree.path_tokens(node)]], device=model.device)
        is_picture = (chain == form.placeholder).long()
        own = model.module(
            input_ids=chain,
            attention_mask=torch.ones_like(chain),
            use_cache=False,
            **inputs,
            **vision.own_arguments(is_picture),
        )
        yield difference(row, own.logits[0, -1])
