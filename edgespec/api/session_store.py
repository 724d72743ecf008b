"""Sessions for texts: a kept one whose text begins as the prompt does, or a new one.

Finished sessions are kept, with their place in the draft's and the target's caches, so that the next turn of a
conversation is read from where the last one ended. Only the one who asked for a text continues its session: how much of
a prompt was read before would tell anybody else what it was. The least recently used is closed first.
"""

import asyncio
from collections import OrderedDict
from collections.abc import AsyncIterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from typing import Any

from edgespec.api.ask import Ask
from edgespec.api.errors import ApiError, unavailable
from edgespec.api.holder import Holder
from edgespec.api.turning import settled
from edgespec.core.address import Address
from edgespec.core.errors import EdgespecError
from edgespec.core.measurements import Measurements
from edgespec.core.target_identity import target_name
from edgespec.core.tokenizer import Tokenizer
from edgespec.drafting.modes import policy
from edgespec.edge.directory import Directory
from edgespec.edge.link_options import LinkOptions
from edgespec.edge.session import Session
from edgespec.edge.step import Statistics
from edgespec.engines.draft_engine import DraftEngine


@dataclass(frozen=True)
class Source:
    """Where texts come from. engine: None: modes that draft are not offered. link: with its `offline_after_s`, for
    requests that want provisional text. sampling: parameters that the model's makers recommend. remembering: options
    of `Session` about memories, which all texts share."""

    servers: Sequence[Address | tuple[str, int]]
    engine: DraftEngine | None
    tokenizer: Tokenizer
    link: LinkOptions
    directory: Directory | None = None
    sampling: Mapping[str, Any] = field(default_factory=dict)
    remembering: Mapping[str, Any] = field(default_factory=dict)


@dataclass
class OpenSession:
    """holder: whose texts it writes. reused: tokens of the prompt that were read for an earlier text. before: the
    session's statistics as this text began."""

    session: Session
    engine: DraftEngine | None
    manner: tuple[object, ...]
    holder: Holder
    reused: int = 0
    before: Statistics = field(default_factory=Statistics)


class SessionStore:
    """kept: finished sessions that are held, at most. opened: sessions that are opened at once, at most; each waits for
    a server in a thread of its own."""

    def __init__(self, source: Source, kept: int, opened: int) -> None:
        self.source = source
        self._most_kept = kept
        self._opening = ThreadPoolExecutor(opened, "edgespec-open")
        self._kept: OrderedDict[int, OpenSession] = OrderedDict()
        self._free_engines: list[DraftEngine] = [] if source.engine is None else [source.engine]
        self._measurements: dict[str, Measurements] = {}
        self.target_id: str | None = None
        self.context_length: int | None = None  # as the last session's target has it

    def __len__(self) -> int:
        """How many are kept."""
        return len(self._kept)

    @asynccontextmanager
    async def begin(self, ask: Ask, holder: Holder, fresh: bool = False) -> AsyncIterator[OpenSession]:
        """A session that has begun the text. It is kept afterwards if its link still works, and ended where the text
        was not finished. fresh: no kept session is used. Raises ApiError."""
        opened = None if fresh else self._continue(ask, holder)
        if opened is None:
            opened = await self._open(ask, holder)
        try:
            yield opened
        except EdgespecError:
            self._close(opened)
            raise
        except BaseException:
            self._put_back(opened)
            raise
        else:
            self._put_back(opened)

    def close(self) -> None:
        while self._kept:
            self._close(self._kept.popitem()[1])
        self._opening.shutdown()

    def _continue(self, ask: Ask, holder: Holder) -> OpenSession | None:
        """A kept session of this holder that has begun the prompt; None: no one fits."""
        manner = ask.manner
        found = [
            (length, key)
            for key, kept in self._kept.items()
            if kept.holder == holder
            and kept.manner == manner
            and not kept.session.pictures
            and (length := ask.reusable(kept.session.all_tokens))
        ]
        if not found:
            return None
        length, key = max(found)
        opened = self._kept.pop(key)
        try:
            opened.session.append(ask.prompt[length:], ask.params.max_new_tokens, length)
        except EdgespecError:
            self._close(opened)
            return None
        opened.reused, opened.before = length, replace(opened.session.statistics)
        return opened

    async def _open(self, ask: Ask, holder: Holder) -> OpenSession:
        engine = self._engine() if ask.offline or policy(ask.mode).drafts else None
        opening = asyncio.get_running_loop().run_in_executor(self._opening, self._session, ask, engine)
        try:
            session = await settled(opening)
        except BaseException as error:
            if engine is not None:
                self._free_engines.append(engine)
            if isinstance(error, asyncio.CancelledError) and not opening.exception():
                opening.result().close()
            if isinstance(error, EdgespecError):
                raise unavailable(error) from None
            raise
        self.target_id = target_name(session.target.target_id)
        self.context_length = session.target.context_length
        opened = OpenSession(session, engine, ask.manner, holder)
        try:
            await self._prompt(session, ask)
        except EdgespecError as error:
            self._close(opened)
            code = None if ask.chat else "context_length_exceeded"
            raise ApiError(400, str(error), param=ask.prompt_param, code=code) from None
        except BaseException:
            self._close(opened)
            raise
        return opened

    async def _prompt(self, session: Session, ask: Ask) -> None:
        """Pictures are decoded, and their text is encoded, beside the event loop."""
        if ask.chat is None:
            session.prompt(ask.prompt)
        else:
            loop = asyncio.get_running_loop()
            await settled(loop.run_in_executor(self._opening, session.prompt, ask.chat))

    def _session(self, ask: Ask, engine: DraftEngine | None) -> Session:
        source = self.source
        link = source.link if ask.offline else replace(source.link, offline_after_s=None)
        return Session(
            source.servers,
            engine,
            ask.params,
            directory=source.directory,
            mode=ask.mode,
            objective=ask.objective,
            draft_tokens=ask.draft_tokens,
            latency_ms=ask.latency_ms,
            tokenizer=source.tokenizer,
            link=link,
            trace=[],
            measurements=self._measurements.get(ask.mode),
            **source.remembering,
        )

    def _engine(self) -> DraftEngine | None:
        """One that no session uses: each session has its own place in the draft's cache."""
        if self.source.engine is None:
            return None
        return self._free_engines.pop() if self._free_engines else self.source.engine.twin()

    def _put_back(self, opened: OpenSession) -> None:
        session = opened.session
        self._measurements[session.policy.name] = session.measurements
        try:
            session.cancel()
        except EdgespecError:
            return self._close(opened)
        self._kept[id(opened)] = opened
        while len(self._kept) > self._most_kept:
            self._close(self._kept.popitem(last=False)[1])

    def _close(self, opened: OpenSession) -> None:
        opened.session.close()
        if opened.engine is not None:
            self._free_engines.append(opened.engine)
