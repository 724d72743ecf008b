"""A session's connection to its servers: frames go up, messages come down, and what happens to the link is mended here.

The native `ResilientConnection` keeps connections alive, hedges and resumes. What needs the session's own record is
done here: when a server has forgotten the session it is opened anew, with the text so far as its prompt. The noise
depends on absolute positions, so the text goes on as if nothing had happened.
"""

import secrets
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from edgespec import _native
from edgespec.core.address import Address
from edgespec.core.errors import EdgespecError
from edgespec.core.messages import Block, Hint, Verdict
from edgespec.core.params import ParameterError
from edgespec.core.picture_section import SentPicture
from edgespec.core.server_options import ServerOptions
from edgespec.core.where import Question
from edgespec.edge.directory import Directory
from edgespec.edge.finder import Finder
from edgespec.edge.handshake import explain, reach
from edgespec.edge.link_options import LinkOptions
from edgespec.edge.opening import CHANNEL
from edgespec.edge.sent_pictures import SENT

LEFT = "the server is going away"
"""Why the native connection says that a link was lost after `move`."""

ASTRAY = (
    "connections to {} reach several servers, which do not share sessions: let the balancer there keep a device on one "
    "server (by source address), or start servers with --advertise and give the device --directory."
)

FINISH_REASONS: dict[_native.FinishReason, str] = {
    _native.FinishReason.STOP: "stop",
    _native.FinishReason.LENGTH: "length",
}


class ServerConnection:
    """One session's link to whichever of its servers is there.

    encode_open: makes an OPEN whenever a server has to be told everything (opening.py). on_message: takes the
    verdicts and hints of the present turn. servers: or the directory that names them, at the start and whenever the
    present one does not do.

    link: the native connection, with what it counts. target: the WELCOME of the first server; welcome: that of the
    newest one. notes: what happened, in words; the caller clears them. offline: there has been no
    server for `offline_after_s`; writing: the draft goes on meanwhile, so that giving up raises nothing.
    """

    def __init__(
        self,
        servers: Sequence[Address] | Directory,
        vocabulary_hash: bytes,
        options: LinkOptions,
        encode_open: Callable[[], bytes],
        on_message: Callable[[Verdict | Hint], None],
    ) -> None:
        self._options = options
        self._encode_open = encode_open
        self._on_message = on_message
        directory = servers if isinstance(servers, Directory) else None
        self._servers: Sequence[Address] = () if isinstance(servers, Directory) else servers
        self.link, self.target, question = reach(
            servers, Question(secrets.token_hex(16)), vocabulary_hash, options
        )
        self._finder = Finder(directory, replace(question, model=self.target.target_id), self.link, options)
        self._server = self.address
        self._there = (
            f"where {directory.url} says" if directory else "at " + " or ".join(map(str, self._servers))
        )
        self.welcome = self.target
        self.notes: list[str] = []
        self.offline = self.writing = False
        self.losses = 0
        self.all_files = False
        self._turn = 0
        self._refusals = 0
        self._leaving: Address | None = None

    @property
    def address(self) -> Address:
        """The server that has the session, or had it last."""
        return Address(*self.link.address)

    # What goes up

    def open(self, all_files: bool = False) -> None:
        """The session begins, here or anew at another server. all_files: the server lacks pictures."""
        self.all_files = all_files
        self._turn = 0
        self.link.await_verdicts(True)
        self._guarded(self.link.open, self._encode_open())

    def append(
        self,
        keep_length: int,
        tokens: Sequence[int],
        max_new_tokens: int,
        pictures: Sequence[SentPicture] = (),
    ) -> None:
        """The next turn, with the pictures among its tokens; or, with no tokens and none to come, the end of this one.
        Messages of earlier turns, which may still be on their way, are dropped."""
        self._turn += 1
        self.link.await_verdicts(max_new_tokens > 0)
        array = np.array(tokens, dtype=np.int32)
        frame = _native.encode_append(
            CHANNEL,
            keep_length,
            max_new_tokens,
            turn=self._turn,
            tokens=array,
            pictures=self.picture_section(pictures),
        )
        self._guarded(self.link.send, frame)

    def picture_section(self, pictures: Sequence[SentPicture]) -> bytes:
        """What brings these pictures to the server that has the session."""
        return SENT.section(self.address, pictures, self.all_files) if pictures else b""

    def send(self, message: Block | ServerOptions) -> None:
        if isinstance(message, ServerOptions):
            frame = _native.encode_tune(CHANNEL, message.to_wire())
        else:
            frame = _native.encode_block(
                CHANNEL,
                first_node=message.first_node,
                tokens=np.array(message.tokens, dtype=np.int32),
                parents=np.array(message.parents, dtype=np.uint32),
                probabilities=np.round(np.array(message.probabilities) * 255).astype(np.uint8),
            )
        self._guarded(self.link.send, frame)

    def close(self) -> None:
        """The session ends; what is queued may leave."""
        self._finder.settled()
        if not self.link.dead:
            self.link.send(_native.encode_close(CHANNEL, _native.FinishReason.CANCELLED))
            self.link.close()

    # What comes down

    def receive(self, timeout_s: float | None) -> bool:
        """Handle the next arrival; False when the time has passed without one.

        Raises EdgespecError when the link cannot be mended.
        """
        arrival = self._guarded(self.link.receive, timeout_s)
        if arrival is None:
            return False
        if isinstance(arrival, _native.Verdict):
            self._on_verdict(arrival)
        elif isinstance(arrival, _native.Hint):
            if arrival.turn == self._turn:
                hint = Hint(
                    arrival.base_length, arrival.node, arrival.token, arrival.confidence, arrival.layer
                )
                self._on_message(hint)
        else:
            self._on_event(arrival)
        return True

    def _on_verdict(self, verdict: _native.Verdict) -> None:
        if self._refusals:
            self._refusals = 0
            self._finder.settled()
        if verdict.finish != _native.FinishReason.NONE:
            self.link.await_verdicts(False)
        if verdict.turn == self._turn:
            self._on_message(
                Verdict(
                    verdict.base_length,
                    verdict.tokens.tolist(),
                    FINISH_REASONS.get(verdict.finish),
                    None if verdict.logprobs is None else verdict.logprobs.tolist(),
                    verdict.forwards,
                    verdict.rows,
                    verdict.forward_us / 1e3,
                    verdict.clock_us / 1e3,
                    verdict.row_price / 255,
                    _top_logprobs(verdict),
                )
            )

    # What happens to the link

    def _on_event(self, event: Any) -> None:
        match event:
            case _native.Lost() if self._refusals and event.reason == LEFT:
                pass  # a server that was passed over, as a note says already
            case _native.Lost():
                self.losses += 1
                self.notes.append(f"lost the link to {self._server}: {event.reason}")
                if event.reason != LEFT:
                    self._finder.begin(leave=False)
            case _native.Offline() if self.link.lost:
                self.offline = True
                self.notes.append(f"offline: no server for {self._options.offline_after_s:g} s")
            case _native.Reconnected():
                self._on_reached(event, "reconnected to")
            case _native.Forgotten():
                self._on_reached(event, "re-opened at")
                self.open()
            case _native.Goaway() if self._leaving != self.address:
                # It comes on each connection. With no other server the text goes on here as long as it may.
                self._leaving = self.address
                self.notes.append(f"the server at {self.address} is going away: {event.message}")
                self._finder.begin(leave=True) if self._finder else self.link.move()
            case _native.Astray():
                self.notes.append(ASTRAY.format(Address(*event.address)))
            case _native.OtherTarget():  # the native connection has left it already
                there = Address(*event.address)
                serves = f"the server at {there} serves {event.target_id}, not {self.target.target_id}"
                self._on_refusal(serves, EdgespecError(f"{serves}: start a new session for that."))
            case _native.Woken():
                self._on_directory()
            case _native.GivenUp() if self.link.lost and not (self.offline and self.writing):
                raise EdgespecError(
                    f"the server went away, and for {self._options.give_up_s:g} s there has been none {self._there} "
                    f"({event.reason}): see that it runs; another step goes on waiting."
                )
            case _native.Welcome():
                self.welcome = event
            case _native.Error() if event.code == _native.ErrorCode.UNKNOWN_PICTURE:
                self.open(all_files=True)
            case _native.Error():
                kind = ParameterError if event.code == _native.ErrorCode.PARAMETER else EdgespecError
                refusal = kind(explain(event, self.address))
                if not event.retryable:
                    raise refusal
                self._on_refusal(str(refusal), refusal, event.retry_after_ms / 1e3)
                if not self._finder:
                    self.link.move()

    def _on_reached(self, event: Any, how: str) -> None:
        """There is a link again."""
        self.offline, self._leaving = False, None
        self._server = Address(*event.address)
        after = f" after {event.seconds:.1f} s" if event.seconds else ""
        self.notes.append(f"{how} {self._server}{after}")
        self._settled()

    def _on_refusal(self, why: str, error: EdgespecError, retry_s: float = 1.0) -> None:
        """A server does not take the session. Raises the error when every one has been tried, or asks the directory.
        retry_s: when this one may be asked again."""
        self._refusals += 1
        if self._finder:
            if self._refusals == 1:
                self.notes.append(why)
            self._finder.begin(leave=True, refusal=error, after_s=retry_s if self._refusals > 1 else 0.0)
        elif self._refusals >= len(self._servers):
            raise error
        else:
            self.notes.append(why)

    def _on_directory(self) -> None:
        sentence, open_again = self._finder.on_answer()
        if sentence is not None:
            self.notes.append(sentence)
        if open_again:
            self.open()

    def _settled(self) -> None:
        """There is a link to a server that may have the session."""
        if not self._refusals:
            self._finder.settled()

    def _guarded(self, call: Callable[..., Any], argument: Any) -> Any:
        try:
            return call(argument)
        except ConnectionError as error:
            raise EdgespecError(f"the link is closed ({error}): start a new session.") from None


def _top_logprobs(verdict: _native.Verdict) -> list[dict[int, float]] | None:
    if verdict.top_logprobs is None:
        return None
    ids, logprobs = verdict.top_tokens.tolist(), verdict.top_logprobs.tolist()
    each = len(ids) // len(verdict.tokens)
    parts = [slice(start, start + each) for start in range(0, len(ids), each)]
    return [dict(zip(ids[part], logprobs[part], strict=True)) for part in parts]
