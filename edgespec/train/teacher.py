"""The target as teacher: its hidden states, from which draft and exits learn its distributions.

Final hidden rows are 640 bytes a token where logits are 16 kB: rows are kept, and the LM head runs again where a
distribution is needed.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from transformers import AutoModelForCausalLM

from edgespec.core.errors import EdgespecError


class Teacher:
    """A frozen target in bfloat16 on the CPU."""

    def __init__(self, model: Any) -> None:
        self.model = model.to(torch.bfloat16).eval().requires_grad_(False)
        self.vocabulary_size: int = self.model.config.vocab_size
        self.width: int = self.model.config.hidden_size
        self.norm_epsilon: float = self.model.config.rms_norm_eps

    @classmethod
    def load(cls, folder: Path) -> Teacher:
        """The target in `folder`; raises EdgespecError if there is none."""
        if not (folder / "config.json").is_file():
            raise EdgespecError(
                f"{folder} holds no model: train one first with `edgespec train target --out {folder}`."
            )
        return cls(AutoModelForCausalLM.from_pretrained(folder, dtype=torch.bfloat16))

    def final_norm(self) -> torch.Tensor:
        """The weight [D] of the norm before the LM head."""
        weight: torch.Tensor = self.model.model.norm.weight
        return weight

    @torch.no_grad()
    def hidden(
        self, batch: torch.Tensor, layers: Sequence[int] = ()
    ) -> tuple[torch.Tensor, dict[int, torch.Tensor]]:
        """Final normed rows bfloat16 [B, L, D], and the raw rows after each of `layers` (1-based)."""
        output = self.model.model(input_ids=batch, use_cache=False, output_hidden_states=bool(layers))
        taps = {layer: output.hidden_states[layer] for layer in layers}
        return output.last_hidden_state, taps

    def logits(self, rows: torch.Tensor) -> torch.Tensor:
        """The LM head on normed rows [..., D] -> float32 [..., V]."""
        logits: torch.Tensor = self.model.lm_head(rows.to(torch.bfloat16)).float()
        return logits


@dataclass(frozen=True)
class Lesson:
    """What the teacher would say: probabilities float32 [..., V], and their mean entropy in nats a row."""

    probabilities: torch.Tensor
    entropy: float

    @classmethod
    @torch.no_grad()
    def of(cls, logits: torch.Tensor) -> Lesson:
        """The lesson in the teacher's logits [..., V]."""
        logs = torch.log_softmax(logits, -1)
        probabilities = logs.exp()
        return cls(probabilities, float(-(probabilities * logs).sum(-1).mean()))

    def divergence(self, logits: torch.Tensor) -> torch.Tensor:
        """Mean KL(teacher || student) in nats a row, of the student's logits [..., V]."""
        cross_entropy = -(self.probabilities * torch.log_softmax(logits.float(), -1)).sum(-1).mean()
        return cross_entropy - self.entropy
