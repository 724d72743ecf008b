"""The target's tokenizer as the server hands it out: part by part, each device a few times over at once at most."""

from __future__ import annotations

from pathlib import Path

from edgespec import _native
from edgespec.core import tokenizer_archive as archives
from edgespec.server.rate import Rates
from edgespec.server.refusal import Refused

PART_BYTES = 60_000
"""Of a FILE: below the largest frame."""

TIMES_A_DEVICE = 3

TOKENIZERS_PER_S = 1 / 60
"""That a device may fetch, after the first few."""


class TokenizerOffer:
    """folder: the target's; None, or one without a tokenizer.json: nothing is offered. hash: as in the WELCOME.
    rates: of the parts that each device fetches."""

    def __init__(self, folder: Path | None) -> None:
        files = archives.read_files(folder) if folder is not None and folder.is_dir() else {}
        offered = "tokenizer.json" in files
        self._archive = archives.pack(files) if offered else b""
        self.hash = archives.hash_of(files) if offered else archives.NO_HASH
        parts = TIMES_A_DEVICE * (1 + len(self._archive) // PART_BYTES)
        self.rates = Rates(parts * TOKENIZERS_PER_S, parts)

    def part(self, asked: _native.Fetch) -> bytes:
        """The FILE that answers. Raises Refused."""
        if not self._archive or asked.tokenizer_hash != self.hash or asked.first_byte >= len(self._archive):
            raise Refused(_native.ErrorCode.PARAMETER, "the server has no such tokenizer: connect anew")
        content = self._archive[asked.first_byte : asked.first_byte + PART_BYTES]
        return _native.encode_file(
            first_byte=asked.first_byte, total_bytes=len(self._archive), content=content
        )
