"""A directory of servers: one HTTP address at which a session asks where it may run (`core.where`).

The question is asked in a thread of its own once a text runs, so that a directory that is slow or down delays nothing.
"""

import http.client
import json
import math
import ssl
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

from edgespec.core.access import is_loopback
from edgespec.core.errors import EdgespecError
from edgespec.core.where import MOST_BYTES, Place, Question

ANSWER_TIMEOUT_S = 2.0
RETRY_DEFAULT_S = 0.5
RETRY_S = (0.2, 30.0)
"""The least and the most that is waited before the directory is asked again."""


class DirectoryError(EdgespecError):
    """The directory gave no place; it may be asked again after `retry_s`. by_server: a server behind it said no."""

    def __init__(self, sentence: str, retry_s: float = RETRY_DEFAULT_S, by_server: bool = False) -> None:
        super().__init__(sentence)
        self.by_server = by_server
        self.retry_s = min(max(retry_s, RETRY_S[0]), RETRY_S[1])


@dataclass(frozen=True)
class Directory:
    """url: such as https://fleet.example; /where is added where it has no path. ca: the authority (PEM file) of its
    certificate; None: those that the system trusts. token: sent as `Authorization: Bearer`. insecure: the token may be
    sent in the clear to other machines. Raises EdgespecError."""

    url: str
    ca: str | Path | None = None
    token: str | None = field(default=None, repr=False)
    insecure: bool = False
    timeout_s: float = ANSWER_TIMEOUT_S

    def __post_init__(self) -> None:
        parts = urlsplit(self.url)
        if parts.scheme not in ("http", "https") or not parts.hostname or parts.username:
            raise EdgespecError(
                f"{self.url!r} is no directory's address: give one such as https://fleet.example."
            )
        encrypted = parts.scheme == "https"
        if self.token and not (encrypted or self.insecure or is_loopback(parts.hostname)):
            raise EdgespecError(
                f"the directory's token is not sent to {parts.hostname} in the clear: give an https:// address, or "
                "--insecure where something else encrypts the way there."
            )
        if self.ca is not None and not encrypted:
            raise EdgespecError("a directory's authority belongs to an https:// address: change one of them.")

    def ask(self, question: Question) -> Place:
        """Raises DirectoryError."""
        path = "" if urlsplit(self.url).path.strip("/") else "/where"
        headers = {"Content-Type": "application/json", "X-Session-Id": question.session}
        if self.token:
            headers["Authorization"] = f"Bearer {self.token.strip()}"
        request = urllib.request.Request(self.url.rstrip("/") + path, question.to_json(), headers)
        try:
            with self._opener().open(request, timeout=self.timeout_s) as answer:
                return Place.from_json(answer.read(MOST_BYTES + 1))
        except urllib.error.HTTPError as refusal:
            with refusal:
                raise self._error(_sentence(refusal), _retry_s(refusal), by_server=True) from None
        except EdgespecError as error:
            raise self._error(f"its answer cannot be used: {error}") from None
        except (OSError, http.client.HTTPException, ValueError) as error:
            raise self._error(str(getattr(error, "reason", None) or error or type(error).__name__)) from None

    def _opener(self) -> urllib.request.OpenerDirector:
        handlers: list[urllib.request.BaseHandler] = [_NoRedirects()]
        if self.url.startswith("https"):
            try:
                context = ssl.create_default_context(cafile=None if self.ca is None else str(self.ca))
            except OSError as error:
                raise EdgespecError(f"cannot read the directory's authority in {self.ca} ({error})") from None
            handlers.append(urllib.request.HTTPSHandler(context=context))
        return urllib.request.build_opener(*handlers)

    def _error(
        self, reason: str, retry_s: float = RETRY_DEFAULT_S, by_server: bool = False
    ) -> DirectoryError:
        reason = " ".join(reason.split()).rstrip(".")
        sentence = f"the directory at {self.url} names no server ({reason})."
        return DirectoryError(sentence, retry_s, by_server)


class Inquiry:
    """Asks a directory for a session that runs. One question at a time; `wake` is called from its thread when there is
    a result to `take`."""

    def __init__(self, directory: Directory, wake: Callable[[], object]) -> None:
        self._directory = directory
        self._wake = wake
        self._result: Place | DirectoryError | None = None
        self._call_off = threading.Event()
        self._due_s = math.inf  # when the question under way is asked, or was; infinite: there is none

    def ask(self, question: Question, after_s: float = 0.0) -> None:
        """Unless a question is under way that is asked no later: what happens again and again must not postpone it."""
        due_s = time.monotonic() + after_s
        if self._due_s <= due_s:
            return
        self.call_off()
        self._due_s = due_s
        self._call_off = off = threading.Event()
        threading.Thread(
            target=self._run, args=(question, after_s, off), name="edgespec-directory", daemon=True
        ).start()

    def take(self) -> Place | DirectoryError | None:
        result, self._result = self._result, None
        if result is not None:
            self._due_s = math.inf
        return result

    def call_off(self) -> None:
        """What is under way is not wanted any more."""
        self._call_off.set()
        self._result, self._due_s = None, math.inf

    def _run(self, question: Question, after_s: float, off: threading.Event) -> None:
        if off.wait(after_s):
            return
        try:
            result: Place | DirectoryError = self._directory.ask(question)
        except DirectoryError as error:
            result = error
        if not off.is_set():
            self._result = result
            self._wake()


class _NoRedirects(urllib.request.HTTPRedirectHandler):
    """A redirect would carry the token elsewhere."""

    def redirect_request(self, *arguments: object) -> None:
        return None


def _sentence(refusal: urllib.error.HTTPError) -> str:
    """What the answer's body says, if it says something."""
    try:
        said = json.loads(refusal.read(MOST_BYTES)).get("error")
    except (OSError, ValueError, AttributeError, RecursionError):
        said = None
    return said[:300] if isinstance(said, str) and said else f"{refusal.code} {refusal.reason}"


def _retry_s(refusal: urllib.error.HTTPError) -> float:
    try:
        return float(refusal.headers.get("Retry-After", ""))
    except ValueError:
        return RETRY_DEFAULT_S
