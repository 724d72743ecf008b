"""The pair that a benchmark plays: the bundled one, or a folder of `target` and `draft`, and `exits` where it has them.

Prompts are chosen by a rule, not by hand: held-out sources for the bundled pair and targets without a chat template,
for others the held-out prompts of chat_prompts.py. llama.cpp runs a `target.gguf` in the folder, if there is one.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from benchmarks import chat_prompts
from edgespec.core.errors import EdgespecError
from edgespec.core.tokenizer import Tokenizer
from edgespec.engines.bundled import engine_beside
from edgespec.engines.draft_engine import DraftEngine, load_draft
from edgespec.engines.model_folder import PAIR_FOLDER
from edgespec.train.prompts import held_out_prompts

HELP = "a folder of target, draft and perhaps exits; by default the bundled pair"


@dataclass(frozen=True)
class Pair:
    """folder: as above; with an `engine` made of the draft, such as one in int8, that is what drafts."""

    folder: Path

    @classmethod
    def of(cls, folder: str | None) -> Pair:
        """None: the bundled pair. Raises EdgespecError where a model is missing."""
        found = PAIR_FOLDER if folder is None else Path(folder).resolve()
        for name in ("target", "draft"):
            if not (found / name).is_dir():
                raise EdgespecError(f"{found} has no folder {name!r}: put what `edgespec train` wrote there.")
        return cls(found)

    @property
    def target(self) -> Path:
        return self.folder / "target"

    @property
    def exits(self) -> Path:
        """Raises EdgespecError where the pair has none."""
        if not self.has_exits:
            raise EdgespecError(
                f"{self.folder} has no folder 'exits': put what `edgespec train exits` wrote there."
            )
        return self.folder / "exits"

    @property
    def has_exits(self) -> bool:
        return (self.folder / "exits").is_dir()

    @property
    def draft(self) -> Path:
        return self.folder / "draft"

    @property
    def gguf(self) -> Path:
        return self.folder / "target.gguf"

    @property
    def bundled(self) -> bool:
        return self.folder == PAIR_FOLDER

    @property
    def server_options(self) -> tuple[str, ...]:
        """Of `edgespec serve`."""
        if self.bundled:
            return ()
        exits = ("--exits", str(self.exits)) if self.has_exits else ()
        return ("--target", str(self.target), *exits)

    @cached_property
    def engine(self) -> DraftEngine:
        return load_draft(self.engine_folder)

    @cached_property
    def engine_folder(self) -> Path:
        made = self.folder / "engine"
        return made if made.is_dir() and not self.bundled else engine_beside(self.draft, made)

    @cached_property
    def tokenizer(self) -> Tokenizer:
        return Tokenizer.load(self.engine.tokenizer_path)

    def prompts(self, count: int) -> list[list[int]]:
        if self.bundled or self.tokenizer.chat_template is None:
            return held_out_prompts(self.tokenizer, count)
        asked = ([{"role": "user", "content": text}] for text in chat_prompts.held_out(count))
        return [self.tokenizer.encode(self.tokenizer.chat(messages), False) for messages in asked]

    def acceptance(self, temperature: float) -> float:
        """The share of the draft's choices that the target makes too, as measured when the draft was trained."""
        if self.bundled:
            figures = json.loads((self.folder / "figures.json").read_text(encoding="utf-8"))
            rates = figures["draft"]["agreement"]["held_out"]
        else:
            report = json.loads((self.draft / "report.json").read_text(encoding="utf-8"))
            rates = report["agreement"]["draft"]
        return float(rates["0.8" if temperature else "0.0"]["rate"])
