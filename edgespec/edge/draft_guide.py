"""A session's guide for its draft, where this device can follow it."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path

from edgespec.core.errors import EdgespecError
from edgespec.core.guide import Guide
from edgespec.core.guide_matcher import Guides
from edgespec.core.tokenizer import Tokenizer
from edgespec.drafting.draft_guide import DraftGuide


def draft_guide(guide: Guide | None, tokenizer: Tokenizer, vocabulary_size: int) -> DraftGuide | None:
    """None where there is no guide, or it cannot be followed here: the draft is then free, and the server's refusal of
    a guide that nobody can follow says why."""
    path = getattr(tokenizer, "path", None)
    if guide is None or path is None:
        return None
    try:
        matcher = _guides(path, vocabulary_size, tuple(tokenizer.end_tokens)).matcher(guide)
    except EdgespecError:
        return None
    return DraftGuide(matcher, vocabulary_size)


@lru_cache(maxsize=2)
def _guides(path: Path, vocabulary_size: int, end_tokens: tuple[int, ...]) -> Guides:
    """One for all sessions of a target: llguidance reads the whole vocabulary."""
    return Guides(path, vocabulary_size, end_tokens)
