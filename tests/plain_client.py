"""A second edge, in plain Python on plain sockets, written from docs/wire-format.md and from nothing of edgespec.

One connection at a time, no hedging: it says HELLO, opens or resumes its session, drafts chains, acknowledges, and
connects again whenever a connection is gone or silent. What it gets right, the page says rightly.
"""

import secrets
import struct
from collections.abc import Callable, Sequence

import raw_peer
from raw_peer import Frame, RawPeer

ROOT = 1 << 31
CHANNEL = 1
CHAIN = 3
Draft = Callable[[Sequence[int]], int]


class PlainClient:
    """draft: the next token's guess, or None for a server that is to decode alone. silent_s: a connection from which
    nothing comes for so long is dead; the server must PING more often."""

    def __init__(
        self,
        port: int,
        vocabulary_hash: bytes,
        prompt: Sequence[int],
        max_new_tokens: int,
        draft: Draft | None,
        silent_s: float = 1.0,
    ) -> None:
        self._port = port
        self._hello = raw_peer.hello(vocabulary_hash)
        self._session_id = secrets.token_bytes(16)
        self._draft = draft
        self._silent_s = silent_s
        self._prompt = list(prompt)
        self.text = list(prompt)
        self.finished = False
        self.connections = 0
        self._node = 1
        self._kept: dict[int, bytes] = {}
        self._sent = self._received = self._acknowledged = 0
        self._number(
            raw_peer.opening(
                CHANNEL, self._session_id, self._prompt, max_new_tokens=max_new_tokens, fill=draft is None
            )
        )
        self._draft_chain()

    def run(self) -> list[int]:
        """The text, reconnecting whenever the connection breaks. Raises OverflowError after 100 connections."""
        while not self.finished:
            self.connections += 1
            if self.connections > 100:
                raise OverflowError("a hundred connections were not enough")
            try:
                with RawPeer(self._port) as peer:
                    peer.socket.settimeout(self._silent_s)
                    self._serve(peer)
            except OSError:
                continue
        return self.text[len(self._prompt) :]

    def _serve(self, peer: RawPeer) -> None:
        """One connection, to its end or the text's."""
        peer.send(self._hello)
        answer = peer.next()
        if answer is None or answer.kind != raw_peer.WELCOME:
            return
        if self._acknowledged:
            self._say(peer, raw_peer.RESUME, self._session_id + struct.pack("<II", self._received, 0))
        else:  # a server that has the session takes the OPEN for a repeat
            self._send_kept(peer)
        while not self.finished and (frame := peer.next()) is not None:
            self._take(peer, frame)

    def _take(self, peer: RawPeer, frame: Frame) -> None:
        if frame.channel != CHANNEL:
            return
        assert frame.kind != raw_peer.ERROR, frame.payload
        self._acknowledge(frame.acknowledge)
        if frame.kind == raw_peer.RESUME:
            self._acknowledge(struct.unpack_from("<I", frame.payload, 16)[0])
            self._send_kept(peer)
        elif frame.kind == raw_peer.VERDICT:
            if frame.sequence == self._received + 1:
                self._received += 1
                self._commit(frame.payload)
                newest = self._draft_chain()
                if newest:
                    self._send(peer, newest)
            self._say(peer, raw_peer.ACK)

    def _commit(self, verdict: bytes) -> None:
        base_length, *_, count, finish, _ = struct.unpack_from("<IIIIBBHHBB", verdict)
        assert base_length == len(self.text), "a verdict does not continue the text"
        self.text += struct.unpack_from(f"<{count}i", verdict, 24)
        self.finished = finish != 0

    def _draft_chain(self) -> int:
        """A block that continues the text; its number, or 0 where there is nothing to draft."""
        if self._draft is None or self.finished:
            return 0
        text, tokens = list(self.text), []
        parents = [ROOT | len(text), *range(self._node, self._node + CHAIN - 1)]
        for _ in range(CHAIN):
            tokens.append(self._draft(text))
            text.append(tokens[-1])
        self._node += CHAIN
        return self._number(raw_peer.block(CHANNEL, 0, self._node - CHAIN, tokens, parents))

    # Delivery

    def _number(self, frame: bytes) -> int:
        self._sent += 1
        self._kept[self._sent] = frame
        return self._sent

    def _acknowledge(self, sequence: int) -> None:
        assert sequence <= self._sent, "what was never sent is acknowledged"
        self._acknowledged = max(self._acknowledged, sequence)
        self._kept = {number: frame for number, frame in self._kept.items() if number > self._acknowledged}

    def _send_kept(self, peer: RawPeer) -> None:
        for number in sorted(self._kept):
            self._send(peer, number)

    def _send(self, peer: RawPeer, number: int) -> None:
        frame = self._kept[number]
        peer.send(frame[:8] + struct.pack("<II", number, self._received) + frame[16:])

    def _say(self, peer: RawPeer, kind: int, payload: bytes = b"") -> None:
        peer.send(raw_peer.frame(kind, payload, channel=CHANNEL, acknowledge=self._received))
