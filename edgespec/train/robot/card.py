"""The driving pair's model card: README.md and figures.json, measured on rooms that nothing learnt from."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from edgespec.core.whole_files import save_json
from edgespec.robot.camera import HEIGHT, WIDTH
from edgespec.robot.mission import MOST_LOOKS
from edgespec.robot.rooms import COLOURS, KINDS
from edgespec.robot.trial import SUCCESS_M
from edgespec.train.card import filled
from edgespec.train.folders import is_finished, read_training
from edgespec.train.recipe import load_draft
from edgespec.train.robot.conversation import Conversations
from edgespec.train.robot.measure import (
    acceptance,
    answers_to,
    driving_figures,
    held_out,
    load,
    sight_figures,
)
from edgespec.train.tokenizer import load_tokenizer

FIGURES_FILE, CARD_FILE = "figures.json", "README.md"
TEMPLATE = Path(__file__).with_name("card.md.jinja")
SCENES, ROOMS = 300, 200


def write_card(folder: Path, scenes: int = SCENES, rooms: int = ROOMS) -> dict[str, Any]:
    """Measure the models in `folder`, write the card there, and return its figures."""
    target = load(folder / "target")
    conversations, cases = Conversations(load_tokenizer(folder / "target")), held_out(scenes)
    own = answers_to(target, conversations, cases)
    figures: dict[str, Any] = {
        "target": {
            "training": read_training(folder / "target"),
            "weights": target.num_parameters(),
            "sight_weights": target.model.visual.num_parameters(),
            "sight": sight_figures(conversations, cases, own),
            "driving": driving_figures(target, conversations, rooms),
        },
        "drafts": {},
    }
    for name, blind in (("blind", True), ("draft", False)):
        if not is_finished(folder / name):
            continue
        draft: Any = load_draft(folder / name) if blind else load(folder / name)
        figures["drafts"][name] = {
            "eyes": not blind,
            "training": read_training(folder / name),
            "weights": draft.num_parameters(),
            "sight_weights": 0 if blind else draft.model.visual.num_parameters(),
            **acceptance(draft, conversations, cases, own, blind),
        }
    save_json(figures, folder / FIGURES_FILE)
    (folder / CARD_FILE).write_text(render(figures), encoding="utf-8")
    return figures


def render(figures: dict[str, Any]) -> str:
    """The card as Markdown."""
    return filled(
        TEMPLATE,
        **figures,
        camera=f"{WIDTH} × {HEIGHT}",
        colours=", ".join(COLOURS),
        kinds=", ".join(KINDS),
        most_looks=MOST_LOOKS,
        success_m=SUCCESS_M,
        millions=lambda count: f"{count / 1e6:.2f} M",
        percent=lambda share: f"{100 * share:.0f} %",
    )
