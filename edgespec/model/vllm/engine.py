"""`VllmEngine`: a `TargetEngine` over one vLLM engine in this process. Chains of drafts; no exits, so no hints.

vLLM keeps the keys and values, and shares prefixes by its own cache; edgespec counts blocks, so that memory is asked
for before it is promised and vLLM never has to preempt a request.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any
from weakref import WeakValueDictionary

import torch

from edgespec.core.errors import EdgespecError
from edgespec.core.pacing import ForwardPacing
from edgespec.core.pictures import PictureSpan
from edgespec.model.other_engine import OtherEngine
from edgespec.model.target_engine import Decisions, ForwardRequest, KvFull, PrefixSalt
from edgespec.model.vllm import environment
from edgespec.model.vllm.jobs import Job, chain_of

MOST_IDLE_STEPS = 64
"""Steps of vLLM in which nothing of a forward comes out; a prompt is read in chunks, which takes some."""


class Blocks:
    """vLLM's blocks as sessions have reserved them: see `PageCounts`."""

    def __init__(self, count: int, size: int) -> None:
        self.count = count
        self.size = size
        self.used = 0
        self.reclaimable = 0


class VllmSession:
    """One session's `SessionCache`: its text, and the vLLM request that holds it."""

    numbers = itertools.count()

    def __init__(self, engine: VllmEngine) -> None:
        self._engine = engine
        self._reserved = 0
        self._text: list[int] = []
        self._salt: PrefixSalt = b""
        self._request: Any = None

    @property
    def bytes(self) -> int:
        return 0  # of vLLM's pool, which is taken as a whole

    @property
    def slots(self) -> int:
        return self._reserved * self._engine.pages.size

    def reserve(self, slots: int) -> None:
        blocks = self._engine.pages
        more = -(-slots // blocks.size) - self._reserved
        if more > blocks.count - blocks.used:
            raise KvFull((more - (blocks.count - blocks.used)) * blocks.size)
        blocks.used += max(0, more)
        self._reserved += max(0, more)

    def adopt(
        self, tokens: Sequence[int], pictures: Sequence[PictureSpan] = (), salt: PrefixSalt = b""
    ) -> int:
        self._salt = salt  # vLLM's prefix cache adopts, within this salt
        return 0

    def publish(
        self, tokens: Sequence[int], pictures: Sequence[PictureSpan] = (), salt: PrefixSalt = b""
    ) -> None:
        """vLLM's prefix cache has it."""

    def release(self) -> None:
        self.end_request()
        self._text = []
        self._engine.pages.used -= self._reserved
        self._reserved = 0

    def __del__(self) -> None:
        self.release()

    def begin(self, request: ForwardRequest) -> tuple[str, Job] | None:
        """vLLM's request for these rows; None for a piece of a prompt that decides nothing, which it reads later."""
        piece, decide = request.piece, request.decide.tolist()
        tokens, first = piece.tokens.tolist(), int(piece.positions[0])
        text_rows = decide[0] + 1 if decide else len(piece)
        del self._text[first:]
        self._text += tokens[:text_rows]
        if not decide:
            return None
        if self._request is None or list(self._request.all_token_ids) != self._text:
            self.end_request()
            self._request = self._engine.new_request(
                f"session-{next(self.numbers)}", list(self._text), self._salt, self
            )
        return self._request.request_id, Job(request, chain_of(tokens, decide))

    def commit(self, tokens: Sequence[int]) -> None:
        self._text += tokens

    def end_request(self) -> None:
        """vLLM forgets the session's request; its prefix cache keeps what it can for the next one."""
        if self._request is not None:
            self._engine.end(self._request)
        self._request = None


class VllmEngine(OtherEngine):
    """core: vLLM's `EngineCore`. facts, pace: see `OtherEngine`. `load` makes core and facts."""

    trees = False

    def __init__(self, core: Any, facts: Mapping[str, Any], pace: ForwardPacing | None = None) -> None:
        super().__init__(facts, pace)
        self._core = core
        self._threads = torch.get_num_threads()
        self._most = int(core.vllm_config.scheduler_config.max_num_seqs)
        self._holders = WeakValueDictionary[str, VllmSession]()
        """Sessions whose requests vLLM has, by the requests' names."""
        cache = core.vllm_config.cache_config
        self.pages = Blocks(int(cache.num_gpu_blocks) - 1, int(cache.block_size))  # one is vLLM's own

    @classmethod
    def load(
        cls,
        target: str | Path | None,
        dtype: str = "auto",
        threads: int | None = None,
        kv_memory: int | str | None = None,
        pace: ForwardPacing | None = None,
        arguments: Mapping[str, Any] = MappingProxyType({}),
    ) -> VllmEngine:
        """Load a folder or model id; see `Target.load`. arguments: of vLLM's `EngineArgs`. Raises EdgespecError."""
        environment.prepare()
        from edgespec.model.vllm.core import load_core  # vllm

        core, facts = load_core(target, dtype, threads, kv_memory, arguments)
        return cls(core, facts, pace)

    def open_cache(self, capacity: int) -> VllmSession:
        return VllmSession(self)

    def new_request(self, name: str, tokens: list[int], salt: PrefixSalt, session: VllmSession) -> Any:
        from edgespec.model.vllm.core import request_of

        request = request_of(self._core, name, tokens, salt)
        self._core.add_request(request)
        self._holders[name] = session
        return request

    def end(self, request: Any) -> None:
        if not request.is_finished():
            self._core.abort_requests([request.request_id])
        self._holders.pop(request.request_id, None)

    def decide(self, requests: Sequence[ForwardRequest]) -> list[Decisions]:
        """As many at once as vLLM holds requests."""
        parts = (requests[first : first + self._most] for first in range(0, len(requests), self._most))
        return [decisions for part in parts for decisions in self._decide(part)]

    def _decide(self, requests: Sequence[ForwardRequest]) -> list[Decisions]:
        from edgespec.model.vllm import hooks

        # A thread has its own number, and vLLM refuses another one than at its start.
        if torch.get_num_threads() != self._threads:
            torch.set_num_threads(self._threads)
        self._make_room({id(request.cache) for request in requests})
        begun = [request.cache.begin(request) for request in requests]
        hooks.jobs.clear()
        hooks.jobs.update(one for one in begun if one is not None)
        idle = 0
        while not all(job.done for job in hooks.jobs.values()):
            idle = 0 if self._step() else idle + 1
            if idle > MOST_IDLE_STEPS:
                raise EdgespecError("vLLM runs none of a forward's requests: give it more --kv-memory.")
        decisions = []
        for request, one in zip(requests, begun, strict=True):
            if one is not None:
                request.cache.commit(one[1].committed)
            decisions.append(Decisions.nothing() if one is None else one[1].decisions)
        return decisions

    def _make_room(self, running: set[int]) -> None:
        """vLLM counts requests that run in no step too: the oldest of the other sessions give way."""
        others = [one for one in self._holders.values() if id(one) not in running]
        for session in others[: max(0, len(others) + len(running) - self._most)]:
            session.end_request()

    def _step(self) -> bool:
        """One step of vLLM; whether something came out."""
        from edgespec.model.vllm import hooks

        outputs, ran = self._core.step_fn()
        self._core.post_step(ran)
        found = [one for group in (outputs or {}).values() for one in group.outputs if one.new_token_ids]
        for one in found:
            hooks.jobs[one.request_id].take(hooks.decided[one.request_id], len(one.new_token_ids))
        return bool(found)
