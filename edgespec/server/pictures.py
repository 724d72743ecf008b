"""Pictures in sessions' texts: what arrives is checked at once, then decoded and encoded off the server's loop.

What the target's encoder made of a picture is kept by the picture's hash, for the device that sent it: its next session
need not send the file again. Devices take turns at the encoder, and each has a share of the files that may wait. The
one of which most is kept loses its oldest first.
"""

from __future__ import annotations

import hashlib
from collections import Counter, OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgespec import _native
from edgespec.core import picture_files, picture_section
from edgespec.core.errors import EdgespecError
from edgespec.core.picture_section import SentPicture
from edgespec.core.pictures import PictureFormat, cut_picture
from edgespec.core.shares import may_take
from edgespec.model.target_engine import PlacedPicture, TargetEngine
from edgespec.server.open_sessions import OpenSessions
from edgespec.server.refusal import Refused
from edgespec.server.server_session import ServerSession
from edgespec.server.work_in_turns import WorkInTurns

KEPT_BYTES = 256 << 20
"""Of encoded pictures that are remembered."""

WAITING_BYTES = 64 << 20
"""Of picture files that wait to be decoded, of all sessions together."""

RETRY_MS = 200


class EncodedPictures:
    """What the encoder made of pictures, `limit` bytes of it, by device and the picture's hash."""

    def __init__(self, limit: int = KEPT_BYTES) -> None:
        self._limit = limit
        self._bytes = Counter[bytes]()
        self._kept: dict[bytes, OrderedDict[bytes, Any]] = {}

    def get(self, identity: bytes, sha256: bytes) -> Any | None:
        of_device = self._kept.get(identity, OrderedDict())
        if sha256 in of_device:
            of_device.move_to_end(sha256)
        return of_device.get(sha256)

    def put(self, identity: bytes, sha256: bytes, features: Any) -> None:
        of_device = self._kept.setdefault(identity, OrderedDict())
        if sha256 in of_device:
            return
        of_device[sha256] = features
        self._bytes[identity] += features.bytes
        while self._bytes.total() > self._limit:
            largest = max(self._bytes, key=lambda one: self._bytes[one])
            self._bytes[largest] -= self._kept[largest].popitem(last=False)[1].bytes
            if not self._kept[largest]:
                del self._kept[largest], self._bytes[largest]


@dataclass(frozen=True)
class Arrived:
    """Checked pictures of one OPEN or APPEND. features: by hash, of those that are encoded already."""

    pictures: Sequence[SentPicture]
    features: dict[bytes, Any]

    @property
    def waiting_bytes(self) -> int:
        return sum(len(one.file) for one in self.pictures if one.span.sha256 not in self.features)


class Pictures:
    """call: runs a function in the server's loop, from any thread."""

    def __init__(
        self, target: TargetEngine, sessions: OpenSessions, call: Callable[[Callable[[], object]], object]
    ) -> None:
        self._target = target
        self._sessions = sessions
        self._encoded = EncodedPictures()
        self._waiting_bytes = Counter[str]()
        self._work = WorkInTurns("pictures", call)

    def check(
        self,
        section: bytes,
        who: tuple[bytes, str],
        tokens: NDArray[np.int32],
        first: int,
        earlier: int = 0,
    ) -> Arrived:
        """The pictures among `tokens`, which begin at position `first` of the text. who: the device's identity, and in
        whose share its pictures wait. earlier: pictures that the text has already. Raises Refused."""
        if not section:
            return Arrived([], {})
        form = self._target.picture_format
        if form is None:
            raise _refused("this server's target reads no pictures: leave them out")
        try:
            pictures = picture_section.decode(section)
            for picture in pictures:
                _check(picture, form, tokens, first)
        except EdgespecError as error:
            raise _refused(str(error).rstrip(".")) from None
        if len(pictures) + earlier > form.max_pictures:
            raise _refused(f"a session may have {form.max_pictures} pictures: begin a new one")
        identity, holder = who
        found = {one.span.sha256: self._encoded.get(identity, one.span.sha256) for one in pictures}
        arrived = Arrived(
            pictures, {hash: features for hash, features in found.items() if features is not None}
        )
        if any(not one.file and one.span.sha256 not in arrived.features for one in pictures):
            raise Refused(
                _native.ErrorCode.UNKNOWN_PICTURE,
                "the server has not this picture any more: send its file",
                0,
            )
        waiting = self._waiting_bytes
        if not may_take(waiting[holder], waiting.total(), WAITING_BYTES, arrived.waiting_bytes):
            raise Refused(
                _native.ErrorCode.OVERLOADED, "too many pictures wait to be read: try again later", RETRY_MS
            )
        return arrived

    def place(self, session: ServerSession, arrived: Arrived) -> None:
        """Put them into the session's text; it runs once all are encoded."""
        for picture in arrived.pictures:
            span = picture.span
            features = arrived.features.get(span.sha256)
            session.pictures.append(PlacedPicture(span, features))
            if features is None:
                self._encode(session, picture)
        if self._target.whole_pictures:
            session.verifier.whole_pictures = session.spans

    def close(self) -> None:
        self._work.close()

    def _encode(self, session: ServerSession, picture: SentPicture) -> None:
        session.state.waiting_for += 1
        self._waiting_bytes[session.holder] += len(picture.file)
        self._work.add(session.holder, partial(self._in_thread, session, picture))

    def _in_thread(self, session: ServerSession, picture: SentPicture) -> Callable[[], object]:
        features: Any = None
        failure: Refused | None = None
        try:
            features = self._target.encode_picture(picture_files.decode(picture.file))
        except EdgespecError as error:
            failure = _refused(str(error).rstrip("."))
        except Exception as error:
            failure = Refused.internal("picture's encoder", error)
        return partial(self._encoded_one, session, picture, features, failure)

    def _encoded_one(
        self, session: ServerSession, picture: SentPicture, features: Any, failure: Refused | None
    ) -> None:
        """In the server's loop."""
        self._waiting_bytes[session.holder] -= len(picture.file)
        self._waiting_bytes += Counter()  # forgets those who have none
        session.state.waiting_for -= 1
        if features is not None:
            self._encoded.put(session.identity, picture.span.sha256, features)
        if self._sessions.table.get(session.number) is not session:
            return  # it has ended meanwhile
        if failure is not None:
            self._sessions.refuse(session.number, failure)
            return
        session.pictures[:] = [
            PlacedPicture(one.span, features) if one.span == picture.span else one for one in session.pictures
        ]


def check_kept(session: ServerSession, keep_length: int) -> None:
    """A text is not cut within a picture. Raises Refused."""
    if cut_picture(session.spans, keep_length) is not None:
        raise _refused(
            f"the text's first {keep_length} tokens end within a picture: keep all of it or nothing"
        )


def _check(picture: SentPicture, form: PictureFormat, tokens: NDArray[np.int32], first: int) -> None:
    """Raises EdgespecError."""
    span = picture.span
    rows = form.rows_of(span.height, span.width)
    if span.rows != rows:
        raise EdgespecError(
            f"a picture of {span.width}x{span.height} pixels takes {rows} rows, not {span.rows}."
        )
    if span.first_row < first or span.end > first + len(tokens):
        raise EdgespecError("a picture's rows lie outside the tokens that came with it.")
    if (tokens[span.first_row - first : span.end - first] != form.placeholder).any():
        raise EdgespecError(f"a picture's rows must hold the token {form.placeholder}.")
    if picture.file:
        if hashlib.sha256(picture.file).digest() != span.sha256:
            raise EdgespecError("a picture's file has another SHA-256 than was said.")
        header = picture_files.read_header(picture.file)
        if (header.format, header.height, header.width) != (picture.format, span.height, span.width):
            raise EdgespecError("a picture's file has another format or size than was said.")


def _refused(message: str) -> Refused:
    return Refused(_native.ErrorCode.PARAMETER, message)
