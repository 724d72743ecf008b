"""Where a running session may go on, by its directory: after a loss, when its server goes away, or when that is full.

The question is asked beside the text (`Inquiry`). Until it is answered the link goes on with the servers that it knows,
so a directory that is slow, down or wrong costs no text.
"""

import time
from collections.abc import Sequence
from typing import Protocol

from edgespec.core.address import Address
from edgespec.core.errors import EdgespecError
from edgespec.core.target_identity import same_target
from edgespec.core.where import Place, Question
from edgespec.edge.directory import Directory, DirectoryError, Inquiry
from edgespec.edge.link_options import LinkOptions

AGAIN_S = 1.0
"""After an answer that is of no use, and while there is still no link at the place that was named."""


class MovableLink(Protocol):
    """What it needs of the native connection."""

    @property
    def lost(self) -> bool: ...
    @property
    def address(self) -> tuple[str, int]: ...
    def set_servers(self, others: Sequence[tuple[str, int]], tls_name: str = "") -> None: ...
    def move(self) -> None: ...
    def wake(self) -> None: ...


class Finder:
    """directory: None where the session has a list of servers; then `begin` does nothing. question: that named the
    present server."""

    def __init__(
        self,
        directory: Directory | None,
        question: Question,
        link: MovableLink,
        options: LinkOptions,
    ) -> None:
        self._inquiry = None if directory is None else Inquiry(directory, link.wake)
        self._url = "" if directory is None else directory.url
        self._question = question
        self._link = link
        self._options = options
        self._leave = False
        self._refusal: EdgespecError | None = None
        self._refused_s = 0.0
        self._said = ""

    def __bool__(self) -> bool:
        return self._inquiry is not None

    def begin(self, leave: bool, refusal: EdgespecError | None = None, after_s: float = 0.0) -> None:
        """Ask. leave: go there when it is another server; otherwise it is only known from then on. refusal: why the
        present server does not take the session, raised when no other is found within `give_up_s`."""
        if self._inquiry is None:
            return
        if refusal is not None:
            self._refused_s = self._refused_s if self._refusal else time.monotonic()
            self._refusal = refusal
            self._raise_in_time()
            self._ask_elsewhere()
        self._leave = leave
        self._inquiry.ask(self._question, after_s)

    def settled(self) -> None:
        """A server has the session."""
        if self._inquiry is not None:
            self._inquiry.call_off()
        self._leave, self._refusal, self._said = False, None, ""

    def on_answer(self) -> tuple[str | None, bool]:
        """What there is to say of the directory's answer, in words, and whether to open the session again at the
        present server. Raises the refusal."""
        result = None if self._inquiry is None else self._inquiry.take()
        if result is None:
            return None, False
        if isinstance(result, DirectoryError):
            if result.by_server:
                self._ask_elsewhere()
            return self._ask_again(str(result), result.retry_s), False
        reason = self._unusable(result)
        if reason is not None:
            self._ask_elsewhere()
            return self._ask_again(f"the answer of the directory at {self._url} is not used: {reason}"), False
        self._link.set_servers([result.address], self._options.tls_name or result.tls_name or "")
        if not self._leave:
            return (self._ask_again() if self._link.lost else None), False
        if result.address != Address(*self._link.address):
            self._leave = False
            self._link.move()
            return None, False
        self._ask_elsewhere()
        open_again = self._refusal is not None and not self._link.lost
        return (None, True) if open_again else (self._ask_again(), False)

    def _unusable(self, place: Place) -> str | None:
        if not same_target(place.target_id, str(self._question.model)):
            return f"it names a server of {place.target_id}, and the text is one of {self._question.model}."
        try:
            self._options.credential([place.address.host])
        except EdgespecError as error:
            return str(error)
        return None

    def _ask_elsewhere(self) -> None:
        """The server behind this name does not do."""
        self._question = self._question.elsewhere()

    def _ask_again(self, sentence: str = "", after_s: float = AGAIN_S) -> str | None:
        """The sentence, if it was not said just before."""
        self._raise_in_time()
        self.begin(self._leave, after_s=after_s)
        new, self._said = sentence != self._said, sentence or self._said
        return sentence if sentence and new else None

    def _raise_in_time(self) -> None:
        if self._refusal is not None and time.monotonic() - self._refused_s > self._options.give_up_s:
            raise self._refusal
