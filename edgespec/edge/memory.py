"""What a device remembers between texts and processes: texts that were committed, and what links and engines were like.

It lies in one folder of the user's, readable by nobody else, and never leaves the device. It only proposes and tunes: a
damaged or poisoned file costs speed, never a token.
"""

from __future__ import annotations

import hashlib
import json
import socket
from collections.abc import Sequence
from pathlib import Path

from edgespec import _native
from edgespec.core.address import Address
from edgespec.core.kept_measurements import from_json, to_json
from edgespec.core.measurements import Measurements
from edgespec.core.remembered_texts import remembered_part, text_index, tokens_in
from edgespec.core.whole_files import whole_file
from edgespec.drafting.loop import DraftingLoop
from edgespec.drafting.policy import Policy
from edgespec.edge.memory_folder import default_folder, links_in
from edgespec.edge.memory_key import NotSealed, read_key
from edgespec.edge.text_log import ForeignFile, TextLog
from edgespec.engines.draft_engine import DraftEngine

DEFAULT_BYTES = 16 << 20
MOST_LINKS = 64
"""Links whose measurements are kept, the newest."""

STARTED_HERE = 32768
"""Ports of the loopback interface from here up belong to servers that a command starts for itself: each has another."""


class RememberedTexts:
    """The texts of one target: in an index, and in a file."""

    def __init__(self, log: TextLog | None, most_tokens: int, notes: list[str]) -> None:
        self.index = text_index(most_tokens)
        self._log = log
        self._notes = notes
        try:
            if log is not None and len(texts := log.read()):
                self.index.add_texts(texts)
                self.index.end_text()
        except (OSError, ForeignFile) as error:
            self._give_up(error)

    def add(self, tokens: Sequence[int]) -> None:
        self.index.add(list(tokens))
        self.index.end_text()
        try:
            if self._log is not None:
                self._log.append(tokens)
        except (OSError, ForeignFile) as error:
            self._give_up(error)

    def _give_up(self, error: Exception) -> None:
        self._log = None
        self._notes.append(
            f"texts are remembered in this process only ({error}): give the folder's key, or clear it, or see "
            "`edgespec memory status`"
        )


class Memory:
    """folder: None: the user's own (`default_folder`). most_bytes: of memory for a target's texts; the file is smaller.

    key: a file with the key that encrypts what is kept (`edgespec memory key`); None: nothing is encrypted.
    most_tokens: of a target's texts. notes: what went wrong, in words; the caller clears them. Several sessions may
    share one memory. Raises EdgespecError for a file that holds no key.
    """

    def __init__(
        self,
        folder: str | Path | None = None,
        most_bytes: int = DEFAULT_BYTES,
        key: str | Path | None = None,
    ) -> None:
        self.folder = default_folder() if folder is None else Path(folder)
        self._seal = None if key is None else read_key(Path(key))
        self.notes: list[str] = []
        self.most_tokens = tokens_in(most_bytes)
        self._texts: dict[bytes, RememberedTexts] = {}
        self._usable = True
        """The folder could be read and written so far."""

    def texts(self, target_id: str, vocabulary_hash: bytes, vocabulary_size: int) -> RememberedTexts:
        """Those that this target wrote, in its tokens."""
        key = _hash(target_id.rpartition("@")[2], vocabulary_hash.hex(), str(vocabulary_size))
        if key not in self._texts:
            self._make_folder()
            file = self.folder / f"texts-{key.hex()[:16]}.log"
            log = None
            if self._usable:
                log = TextLog(file, key, vocabulary_size, self.most_tokens, self._seal)
            self._texts[key] = RememberedTexts(log, self.most_tokens, self.notes)
        return self._texts[key]

    def measurements(self, link: bytes) -> Measurements | None:
        """Of the last session on this link (`link_key`); None: there are none."""
        if not self._usable:
            return None
        try:
            kept = self._link_file(link).read_bytes()
            return from_json(json.loads(kept if self._seal is None else self._seal.open(kept, link)))
        except (FileNotFoundError, NotSealed):
            return None
        except (OSError, ValueError, RecursionError):
            self.notes.append(
                f"{self._link_file(link)} is damaged: what it says about the link is learnt again"
            )
            return None

    def keep_measurements(self, link: bytes, measurements: Measurements) -> None:
        if not self._usable:
            return
        file = self._link_file(link)
        try:
            is_new = not file.exists()
            kept = json.dumps(to_json(measurements)).encode()
            with whole_file(file, private=True) as stream:
                stream.write(kept if self._seal is None else self._seal.seal(kept, link))
            if is_new:
                self._forget_oldest_links()
        except OSError as error:
            self._give_up(error)

    def _forget_oldest_links(self) -> None:
        for oldest in sorted(links_in(self.folder), key=_age)[:-MOST_LINKS]:
            oldest.unlink(missing_ok=True)

    def _make_folder(self) -> None:
        try:
            self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        except OSError as error:
            self._give_up(error)

    def _give_up(self, error: OSError) -> None:
        self._usable = False
        self.notes.append(f"the memory in {self.folder} cannot be used ({error}): nothing is kept")

    def _link_file(self, link: bytes) -> Path:
        return self.folder / f"link-{link.hex()[:16]}.{'json' if self._seal is None else 'sealed'}"


class Recollection:
    """One session's use of a memory, which may be none."""

    def __init__(
        self, memory: Memory | None, texts: RememberedTexts | None = None, link: bytes = b""
    ) -> None:
        self._memory = memory
        self._texts = texts
        self._link = link
        self._ended: tuple[int, int] | None = None

    def loop(self, policy: Policy, measurements: Measurements | None) -> DraftingLoop:
        """A drafting loop that starts from these measurements, or those of the last session on this link."""
        if measurements is None and self._memory is not None:
            measurements = self._memory.measurements(self._link)
        loop = DraftingLoop(policy, None if measurements is None else measurements.handed_on())
        if self._texts is not None:
            loop.use_memory(self._texts.index)
        return loop

    def take_notes(self) -> list[str]:
        if self._memory is None:
            return []
        notes = list(self._memory.notes)
        self._memory.notes.clear()
        return notes

    def turn_ended(self, loop: DraftingLoop) -> None:
        """The turn's tokens are all in the loop's text; it may be said twice."""
        turn = loop.turn_start, len(loop.text)
        if self._memory is None or self._texts is None or self._ended == turn or turn[0] >= turn[1]:
            return
        self._ended = turn
        self._texts.add(remembered_part(loop.text, turn[0]))
        self._memory.keep_measurements(self._link, loop.measurements)


def recall(
    memory: Memory | str | Path | None,
    target: _native.Welcome,
    vocabulary_hash: bytes,
    server: Address,
    draft: DraftEngine | None,
) -> Recollection:
    """What a memory, or the one in a folder, has for a session with this server; None: there is none."""
    if memory is None:
        return Recollection(None)
    opened = memory if isinstance(memory, Memory) else Memory(memory)
    texts = opened.texts(target.target_id, vocabulary_hash, target.vocabulary_size)
    folder = "" if draft is None else str(draft.tokenizer_path.parent)
    return Recollection(opened, texts, link_key(server, target.target_id, folder))


def link_key(server: Address, target_id: str, draft: str) -> bytes:
    """Of a link: the server, its target, the device's draft, and the network that the device is in."""
    local = server.host in ("127.0.0.1", "::1", "localhost") and server.port >= STARTED_HERE
    where = server.host if local else str(server)
    return _hash(where, target_id.rpartition("@")[2], draft, _own_address(server))


def _own_address(server: Address) -> str:
    """The device's address towards the server; nothing is sent to find it out."""
    family = socket.AF_INET6 if ":" in server.host else socket.AF_INET
    try:
        with socket.socket(family, socket.SOCK_DGRAM) as probe:
            probe.connect((server.host, server.port))
            return str(probe.getsockname()[0])
    except OSError:
        return ""


def _hash(*parts: str) -> bytes:
    return hashlib.sha256("\0".join(parts).encode()).digest()


def _age(file: Path) -> float:
    try:
        return file.stat().st_mtime
    except OSError:
        return 0.0
