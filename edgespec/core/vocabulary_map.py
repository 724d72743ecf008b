"""From a target's vocabulary to a draft's of another tokenizer: the same text is the same token.

Only tokens that both have are drafted. A token that the draft lacks is read as the draft's own tokens for its text.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import tokenizers
from numpy.typing import NDArray

from edgespec.core.errors import EdgespecError
from edgespec.core.tokenizer import Tokenizer

LEAST_SHARED = 0.1
"""Of the smaller vocabulary's tokens, those that the other must have."""

MOST_READ = 16
"""Draft tokens that one token of the target is read as."""


@dataclass(frozen=True)
class VocabularyMap:
    """target_of: int32 [draft's V], the target's id of each draft token; -1: the target lacks it. reads: for each id
    of the target the draft tokens that it is read as, one or more."""

    target_of: NDArray[np.int32]
    reads: tuple[tuple[int, ...], ...]

    @property
    def shared(self) -> int:
        """Tokens that both have."""
        return int((self.target_of >= 0).sum())


def vocabulary_map(target: Tokenizer, draft: Tokenizer, target_size: int, draft_size: int) -> VocabularyMap:
    """target_size, draft_size: V of the models' logits. Raises EdgespecError where too little is shared."""
    key = target.vocabulary_hash, draft.vocabulary_hash, target_size, draft_size
    found = _MAPS.get(key)
    if found is None:
        found = _MAPS[key] = _map(target, draft, target_size, draft_size)
        while len(_MAPS) > MAPS_KEPT:
            _MAPS.pop(next(iter(_MAPS)))
    if found.shared < LEAST_SHARED * min(target.vocabulary_size, draft.vocabulary_size):
        raise EdgespecError(
            f"the draft's tokenizer has {found.shared} of the target's {target.vocabulary_size} tokens: compile a "
            "draft with the target's tokenizer, or one that has more of its tokens."
        )
    return found


MAPS_KEPT = 4
_MAPS: dict[tuple[bytes, bytes, int, int], VocabularyMap] = {}


def _map(target: Tokenizer, draft: Tokenizer, target_size: int, draft_size: int) -> VocabularyMap:
    theirs = token_texts(target.core)
    ids = {text: token for token, text in theirs.items() if token < target_size}
    ours = {token: text for token, text in token_texts(draft.core).items() if token < draft_size}
    target_of = np.full(draft_size, -1, dtype=np.int32)
    for token, text in ours.items():
        target_of[token] = ids.get(text, -1)
    for end, other in zip(draft.end_tokens[:1], target.end_tokens[:1], strict=False):
        if end < draft_size and other < target_size:
            target_of[end] = other
    single = {int(token): draft_token for draft_token, token in enumerate(target_of) if token >= 0}
    own_ids = {text: token for token, text in ours.items()}
    reads = tuple(
        (single[token],) if token in single else _read(theirs.get(token, b""), draft, own_ids)
        for token in range(target_size)
    )
    return VocabularyMap(target_of, reads)


def _read(text: bytes, draft: Tokenizer, own_ids: dict[bytes, int]) -> tuple[int, ...]:
    """The draft's tokens for a text; byte by byte where it is no UTF-8 by itself."""
    try:
        ids = draft.encode(text.decode("utf-8"), add_special_tokens=False)
    except UnicodeDecodeError:
        ids = [own_ids[bytes([byte])] for byte in text if bytes([byte]) in own_ids]
    return tuple(ids[:MOST_READ]) or (0,)


def token_texts(core: tokenizers.Tokenizer) -> dict[int, bytes]:
    """What each token stands for in a text, as bytes; special tokens by their names."""
    byte_level = "ByteLevel" in _kinds(core)
    special = {token for token, added in core.get_added_tokens_decoder().items() if added.special}
    texts = {}
    for written, token in core.get_vocab(with_added_tokens=True).items():
        if token in special:
            texts[token] = written.encode(errors="surrogatepass")
        elif byte_level:
            texts[token] = _unescaped(written)
        elif len(written) == 6 and written.startswith("<0x") and written.endswith(">"):
            texts[token] = bytes([int(written[3:5], 16)])
        else:
            texts[token] = written.replace("\u2581", " ").encode(errors="surrogatepass")
    return texts


def _kinds(core: tokenizers.Tokenizer) -> str:
    """The parts that decide how tokens are written."""
    settings = json.loads(core.to_str())
    return json.dumps([settings.get("pre_tokenizer"), settings.get("decoder")])


def _unescaped(written: str) -> bytes:
    """The bytes of a byte-level token; a character that is no byte's stands for itself."""
    table = _bytes_of_characters()
    return b"".join(
        table[character] if character in table else character.encode(errors="surrogatepass")
        for character in written
    )


@lru_cache(maxsize=1)
def _bytes_of_characters() -> dict[str, bytes]:
    """Byte-level BPE's alphabet: printable bytes are written as themselves, the others as characters from U+0100 on."""
    printable = {*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)}
    others = [byte for byte in range(256) if byte not in printable]
    table = {chr(byte): bytes([byte]) for byte in printable}
    return table | {chr(0x100 + place): bytes([byte]) for place, byte in enumerate(others)}
