"""The tokenizer of the target that a draft is compiled for: whether the draft fits it, and whose the engine takes."""

from __future__ import annotations

from pathlib import Path

from edgespec.core.errors import EdgespecError
from edgespec.core.tokenizer import Tokenizer


def check_vocabulary(draft: Path, target_tokenizer: str | Path | None) -> None:
    """Raises EdgespecError where the target's tokenizer is given and has another vocabulary than the draft's."""
    if target_tokenizer is None:
        return
    ours, theirs = Tokenizer.load(draft), Tokenizer.load(target_tokenizer)
    if ours.vocabulary_hash != theirs.vocabulary_hash:
        raise EdgespecError(
            f"the draft's tokenizer ({ours.vocabulary_size} tokens) is not the target's "
            f"({theirs.vocabulary_size} tokens in {target_tokenizer}): use a draft that was trained with the target's "
            "tokenizer, or train one (`edgespec train draft`). Without --target-tokenizer this draft is compiled as it "
            "is, and drafts the tokens that both have."
        )


def tokenizer_folder(draft: Path, target_tokenizer: str | Path | None) -> Path:
    """The draft's folder, or the target's where it encodes text in another way, such as with a first BOS."""
    if target_tokenizer is None:
        return draft
    if Tokenizer.load(draft).encoding_hash == Tokenizer.load(target_tokenizer).encoding_hash:
        return draft
    place = Path(target_tokenizer)
    return place.parent if place.is_file() else place
