"""How well a model sees, says and drives, on rooms that it has not learnt from."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from transformers import DynamicCache, Qwen2VLForConditionalGeneration

from edgespec.core.picture_files import decode
from edgespec.model.cache_argument import cache_argument
from edgespec.robot.camera import jpeg
from edgespec.robot.mission import MOST_LOOKS
from edgespec.robot.pilot import Pilot
from edgespec.robot.trial import make_trials
from edgespec.train.measure import Scorer
from edgespec.train.robot.conversation import (
    Batch,
    Conversations,
    answer_logits,
    embedded,
    positions,
    text_logits,
)
from edgespec.train.robot.lessons import Scene, draw_scene
from edgespec.train.robot.sight import encode, patches, seen_by

HELD_OUT_SEED, TRIALS_SEED = 1_000_003, 2_000_003
"""Far from the seeds of training."""

LONGEST_ANSWER = 80
BLOCK = 4

Case = tuple[Scene, str, str]
"""A scene with a request and the answer that is right."""

_SIGHT = re.compile(r"(\w+ \w+) (?:ahead|(left|right) (\d+)) (\d+\.\d) m")


def load(folder: Path) -> Any:
    """The model that sees in `folder`, float32, ready to be asked."""
    model: Any = Qwen2VLForConditionalGeneration.from_pretrained(folder, dtype=torch.float32)
    return model.eval()


@torch.no_grad()
def answers(
    model: Any,
    conversations: Conversations,
    pictures: Sequence[NDArray[np.uint8]],
    requests: Sequence[str],
) -> list[list[int]]:
    """Greedy answers, each with its end token if it has ended."""
    groups: dict[int, list[int]] = defaultdict(list)
    prompts = [conversations.prompt(one) for one in requests]
    for number, prompt in enumerate(prompts):
        groups[len(prompt)].append(number)
    found: dict[int, list[int]] = {}
    for group in groups.values():
        features = encode(model.model.visual, patches(np.stack([pictures[one] for one in group])))
        ids = torch.tensor([prompts[one] for one in group])
        for number, tokens in zip(group, _written(model, conversations, ids, features), strict=True):
            found[number] = tokens
    return [found[number] for number in range(len(requests))]


def _written(
    model: Any, conversations: Conversations, ids: torch.Tensor, features: torch.Tensor
) -> list[list[int]]:
    language, length = model.model.language_model, ids.shape[1]
    kept = {cache_argument(language): DynamicCache(config=model.config.text_config)}
    rows = embedded(model, ids, features, conversations.first)
    places = positions(conversations.first, length + LONGEST_ANSWER)[:, None].expand(3, len(ids), -1)
    where = places[..., :length]
    said: list[torch.Tensor] = []
    for number in range(LONGEST_ANSWER):
        hidden = language(inputs_embeds=rows, position_ids=where, use_cache=True, **kept)
        said.append(model.lm_head(hidden.last_hidden_state[:, -1]).argmax(-1))
        if bool(torch.stack(said, 1).eq(conversations.end).any(1).all()):
            break
        rows = language.embed_tokens(said[-1][:, None])
        where = places[..., length + number : length + number + 1]
    whole: list[list[int]] = torch.stack(said, 1).tolist()
    return [
        tokens[: tokens.index(conversations.end) + 1] if conversations.end in tokens else tokens
        for tokens in whole
    ]


def held_out(count: int) -> list[Case]:
    rng = np.random.default_rng(HELD_OUT_SEED)
    scenes = [draw_scene(rng) for _ in range(count)]
    return [(scene, *scene.ask(rng)) for scene in scenes]


def answers_to(model: Any, conversations: Conversations, cases: Sequence[Case]) -> list[list[int]]:
    """Greedy answers to these requests."""
    return answers(
        model, conversations, [scene.picture for scene, _, _ in cases], [asked for _, asked, _ in cases]
    )


def sight_figures(
    conversations: Conversations, cases: Sequence[Case], tokens: Sequence[list[int]]
) -> dict[str, Any]:
    """tokens: what the model answered.

    objects_f1: of the things named; bearing_error: mean, in degrees, and distance_error: mean share, of the things
    named rightly; exact: share of answers that are right to the letter; goal_seen: share that rightly say whether the
    goal is in view."""
    texts = [conversations.text(one) for one in tokens]
    named = right = there = goal_right = 0
    bearings: list[float] = []
    distances: list[float] = []
    for text, (scene, asked, _) in zip(texts, cases, strict=True):
        said = sights(text)
        true = {one.name: (one.bearing, one.distance) for one in scene.sightings}
        named, there = named + len(said), there + len(true)
        for name in said.keys() & true.keys():
            right += 1
            bearings.append(abs(said[name][0] - true[name][0]))
            distances.append(abs(said[name][1] - true[name][1]) / true[name][1])
        goal = next(name for name in (*true, asked) if asked.endswith(name))
        goal_right += (goal in said) == (goal in true)
    return {
        "scenes": len(cases),
        "objects_f1": 2 * right / max(1, named + there),
        "bearing_error_degrees": float(np.mean(bearings or [90.0])),
        "distance_error_share": float(np.mean(distances or [1.0])),
        "goal_seen": goal_right / len(cases),
        "exact": float(np.mean([text == wanted for text, (_, _, wanted) in zip(texts, cases, strict=True)])),
        "tokens_an_answer": float(np.mean([len(one) for one in tokens])),
        "examples": [
            [asked, text, wanted] for text, (_, asked, wanted) in zip(texts[:6], cases, strict=False)
        ],
    }


def sights(text: str) -> dict[str, tuple[float, float]]:
    """Name -> bearing in degrees to the left and distance in metres, of all that an answer says it sees."""
    return {
        name: (float(degrees or 0) * (-1 if side == "right" else 1), float(metres))
        for name, side, degrees, metres in _SIGHT.findall(text)
    }


def driving_figures(model: Any, conversations: Conversations, count: int) -> dict[str, Any]:
    """Closed loop: the share of rooms in which the robot stops at its goal in MOST_LOOKS looks, by JPEG pictures."""
    trials = make_trials(TRIALS_SEED, count)
    going, looks = list(trials), 0
    for _ in range(MOST_LOOKS):
        pictures = [decode(jpeg(trial.picture())) for trial in going]
        said = answers(model, conversations, pictures, [trial.request for trial in going])
        looks += len(going)
        going = [
            trial
            for trial, tokens in zip(going, said, strict=True)
            if trial.carry_out(Pilot(), conversations.text(tokens))
        ]
        if not going:
            break
    return {
        "rooms": count,
        "success": sum(trial.reached for trial in trials) / count,
        "bumped": sum(trial.bumped for trial in trials) / count,
        "stopped_elsewhere": sum(
            trial.said_stop and not trial.reached and not trial.bumped for trial in trials
        )
        / count,
        "looks_a_room": looks / count,
    }


@torch.no_grad()
def acceptance(
    draft: Any, conversations: Conversations, cases: Sequence[Case], own: Sequence[list[int]], blind: bool
) -> dict[str, float]:
    """How often the draft's best token is the target's, over the target's own greedy answers, and how many tokens a
    round of four drafts commits. own: these answers. blind: the draft is a model of text alone."""
    right, rounds = list[bool](), list[int]()
    for tokens, (scene, asked, _) in zip(own, cases, strict=True):
        batch = conversations.said(asked, tokens)
        logits = (
            text_logits(draft, batch)
            if blind
            else answer_logits(draft, batch, seen_by(draft.model.visual, [scene]))
        )
        hits = (logits.argmax(-1) == batch.wanted).tolist()
        right += hits
        while hits:
            accepted = next((at for at, hit in enumerate(hits[:BLOCK]) if not hit), min(BLOCK, len(hits)))
            rounds.append(min(accepted + 1, len(hits)))
            hits = hits[accepted + 1 :]
    return {"acceptance": float(np.mean(right)), "tokens_a_round": float(np.mean(rounds))}


def seeing_scorer(draft: Any, conversations: Conversations, scenes: Sequence[Scene]) -> Scorer:
    """A draft that sees as the one guesser of answers about these scenes, one each, in their order."""
    left = iter(scenes)

    def score(text: torch.Tensor, rows: slice) -> list[torch.Tensor]:
        places = torch.arange(rows.start, rows.stop)
        batch = Batch(text, conversations.first, places, text[0, rows.start + 1 : rows.stop + 1])
        return [answer_logits(draft, batch, seen_by(draft.model.visual, [next(left)]))]

    return score
