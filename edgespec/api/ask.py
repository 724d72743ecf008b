"""What one text is asked for: the prompt as tokens, how it is sampled, and how it is drafted."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from edgespec.core.params import SamplingParams
from edgespec.edge.prompt import Chat


@dataclass(frozen=True)
class Ask:
    """prompt_param: the request's parameter that holds the prompt. latency_ms, mode, objective, draft_tokens: as
    `Session` takes them. offline: the draft goes on alone while no server is there; its text is provisional. chat: the
    prompt where it holds pictures, whose rows only a session knows; `prompt` is then empty."""

    prompt: Sequence[int]
    prompt_param: str
    params: SamplingParams
    mode: str = "auto"
    objective: str = "latency"
    draft_tokens: int | None = None
    latency_ms: float | None = None
    offline: bool = False
    chat: Chat | None = None

    @property
    def manner(self) -> tuple[object, ...]:
        """All but the prompt and its length: a session can write another text only in the same manner."""
        params = replace(self.params, max_new_tokens=1, logit_bias={})
        biases = tuple(sorted(self.params.logit_bias.items()))
        how = (self.mode, self.objective, self.draft_tokens, self.latency_ms, self.offline)
        sampled = (getattr(params, name) for name in params.__dataclass_fields__ if name != "logit_bias")
        return (*sampled, biases, *how)

    def reusable(self, text: Sequence[int]) -> int:
        """How many of a finished text's first tokens this one may start from; 0: none.

        A session draws its noise by position. Without a seed of the request's own, a position must not be drawn again.
        """
        length = 0
        for ours, theirs in zip(self.prompt[:-1], text, strict=False):
            if ours != theirs:
                break
            length += 1
        again = self.params.seed is None and not self.params.greedy and len(self.prompt) < len(text)
        return 0 if again or 2 * length < len(text) else length
