"""Texts that devices let their server remember: look-ups for other texts of the same tenant. In memory only, bounded.

Nothing of them is sent to anybody: the target verifies what was looked up, as it does with drafts. A device learns of
them by the time that its text takes. Both sides must allow it: `serve --shared-memory`, and the session's own flag.
"""

from __future__ import annotations

from collections.abc import Sequence

from edgespec import _native
from edgespec.core.errors import EdgespecError
from edgespec.core.remembered_texts import text_index, tokens_in
from edgespec.server.settings import ServerSettings

HOLDER_BYTES = 4 << 20
"""Of one tenant's texts, or of one device's that belongs to none."""

MOST_HOLDERS = 32
"""Of more, the texts of who has used them least lately are forgotten."""

LONGEST_TEXT = 8192
"""Tokens of one text that are kept, the last ones: the server's loop waits while they are entered."""


class SharedMemory:
    """The texts of each holder: a tenant, or a device that belongs to none."""

    def __init__(self, holder_bytes: int = HOLDER_BYTES) -> None:
        self._most_tokens = tokens_in(holder_bytes)
        self._texts: dict[str, _native.TextIndex] = {}

    def of(self, holder: str) -> _native.TextIndex:
        """What this holder's texts are looked up in, and added to."""
        index = self._texts.pop(holder, None)
        if index is None:
            index = text_index(self._most_tokens)
        self._texts[holder] = index
        while len(self._texts) > MOST_HOLDERS:
            del self._texts[next(iter(self._texts))]
        return index


def shared_memory(settings: ServerSettings) -> SharedMemory | None:
    """None: this server has none. Raises EdgespecError where nobody would know whose texts are whose."""
    security = settings.security
    if not settings.shared_memory:
        return None
    if security.insecure and not (security.tokens or security.tls_client_ca):
        raise EdgespecError(
            "--shared-memory keeps the texts of each tenant apart, and with --insecure nobody says whose they are: "
            "give --tokens or --tls-client-ca, or leave one of the two out."
        )
    return SharedMemory()


def add_text(index: _native.TextIndex, tokens: Sequence[int]) -> None:
    """Add a text, the end of a long one; no tokens: none."""
    if tokens:
        index.add(list(tokens[-LONGEST_TEXT:]))
        index.end_text()
