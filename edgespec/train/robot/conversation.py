"""Requests and answers in tokens, and the language model's forward over them while it trains."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from tokenizers import Tokenizer

from edgespec.core.pictures import PictureSpan, rotary_positions
from edgespec.robot.camera import HEIGHT, WIDTH
from edgespec.train.robot.lessons import CELL, CELLS
from edgespec.train.robot.words import END, IMAGE, prompt_text


@dataclass(frozen=True)
class Batch:
    """ids: int64 [B, L], padded behind. first: the row of the picture's first cell. places: int64 [N], which of the
    B · L rows say an answer's token; wanted: int64 [N], that token."""

    ids: torch.Tensor
    first: int
    places: torch.Tensor
    wanted: torch.Tensor


class Conversations:
    """Makes batches of requests and answers."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        self.tokenizer = tokenizer
        self.end = int(tokenizer.token_to_id(END) or 0)
        self.first = self.prompt("").index(int(tokenizer.token_to_id(IMAGE) or 0))

    def prompt(self, request: str, cells: int = CELLS) -> list[int]:
        """cells: rows of the picture; 0: it is left out, as for a draft of text alone."""
        ids: list[int] = self.tokenizer.encode(prompt_text(request, cells)).ids
        return ids

    def batch(self, asked: Sequence[tuple[str, str]], cells: int = CELLS) -> Batch:
        """Of requests and their answers."""
        prompts = [self.prompt(request, cells) for request, _ in asked]
        return self._batch(prompts, [[*self.tokenizer.encode(answer).ids, self.end] for _, answer in asked])

    def said(self, request: str, tokens: Sequence[int]) -> Batch:
        """Of one request and the tokens of an answer that a model gave."""
        return self._batch([self.prompt(request)], [list(tokens)])

    def _batch(self, prompts: Sequence[list[int]], answers: Sequence[list[int]]) -> Batch:
        longest = max(len(prompt) + len(answer) for prompt, answer in zip(prompts, answers, strict=True))
        ids = np.zeros((len(prompts), longest), np.int64)
        places: list[int] = []
        for row, (prompt, answer) in enumerate(zip(prompts, answers, strict=True)):
            ids[row, : len(prompt) + len(answer)] = prompt + answer
            begin = row * longest + len(prompt) - 1
            places.extend(range(begin, begin + len(answer)))
        wanted = np.concatenate([np.array(answer, np.int64) for answer in answers])
        return Batch(torch.from_numpy(ids), self.first, torch.tensor(places), torch.from_numpy(wanted))

    def text(self, tokens: Sequence[int]) -> str:
        whole: str = self.tokenizer.decode(list(tokens))
        return whole


def positions(first: int, length: int) -> torch.Tensor:
    """int64 [3, length]: rotary positions of a text with one picture whose first cell is row `first`."""
    picture = PictureSpan(first, CELLS, HEIGHT, WIDTH, bytes(32))
    return torch.from_numpy(rotary_positions([picture], np.arange(length), CELL))


def embedded(model: Any, ids: torch.Tensor, features: torch.Tensor, first: int) -> torch.Tensor:
    """Rows [B, L, W] of a text in which features [B, CELLS, W] stand for the picture."""
    rows: torch.Tensor = model.model.language_model.embed_tokens(ids)
    return torch.cat([rows[:, :first], features.to(rows.dtype), rows[:, first + CELLS :]], 1)


def answer_logits(model: Any, batch: Batch, features: torch.Tensor) -> torch.Tensor:
    """Logits float32 [N, V] of a batch's answers, by a model that sees."""
    rows = embedded(model, batch.ids, features, batch.first)
    where = positions(batch.first, batch.ids.shape[1])[:, None].expand(3, len(batch.ids), -1)
    return _logits(
        model, model.model.language_model(inputs_embeds=rows, position_ids=where, use_cache=False), batch
    )


def text_logits(model: Any, batch: Batch) -> torch.Tensor:
    """Logits float32 [N, V] of a batch's answers, by a model of text alone: a picture's tokens are tokens to it."""
    return _logits(model, model.model(input_ids=batch.ids, use_cache=False), batch)


def _logits(model: Any, output: Any, batch: Batch) -> torch.Tensor:
    logits: torch.Tensor = model.lm_head(output.last_hidden_state.flatten(0, 1)[batch.places]).float()
    return logits
