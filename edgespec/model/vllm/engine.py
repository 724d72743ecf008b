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
from edgespec.model.vllm.jobs import Job, Reading, chain_of, decided, jobs

MOST_IDLE_STEPS = 8
"""Steps of vLLM in which nothing of a forward runs."""


class Blocks:
    """vLLM's blocks as sessions have reserved them: see `PageCounts`."""

    def __init__(self, count: int, size: int) -> None:
        self.count = count
        self.size = size
        self.used = 0
        self.reclaimable = 0


class VllmSession:
    """One session's `SessionCache`: the vLLM request that holds its text."""

    numbers = itertools.count()

    def __init__(self, engine: VllmEngine) -> None:
        self._engine = engine
        self._reserved = 0
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
        self._engine.pages.used -= self._reserved
        self._reserved = 0

    def __del__(self) -> None:
        self.release()

    def begin(self, request: ForwardRequest) -> tuple[str, Job | Reading]:
        """The name of vLLM's request for these rows, and what it must do."""
        piece, decide = request.piece, request.decide.tolist()
        first = int(piece.positions[0])
        if self._request is None or not self._holds(request.text, first):
            self.end_request()
            name = f"session-{next(self.numbers)}"
            self._request = self._engine.new_request(name, list(request.text), self._salt, self)
        if decide:
            return self._request.request_id, Job(request, chain_of(piece.tokens.tolist(), decide))
        return self._request.request_id, Reading(self._request, first + len(piece))

    def _holds(self, text: Sequence[int], first: int) -> bool:
        """vLLM's request has this text. What is in front of the `first` row has run, so it is as it was."""
        held = self._request.all_token_ids
        return len(held) == len(text) and list(held[first:]) == list(text[first:])

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
        # A thread has its own number, and vLLM refuses another one than at its start.
        if torch.get_num_threads() != self._threads:
            torch.set_num_threads(self._threads)
        self._make_room({id(request.cache) for request in requests})
        try:
            begun = [request.cache.begin(request) for request in requests]
            jobs.clear()
            jobs.update(begun)
            self._run()
        except Exception:
            self._forget()
            raise
        return [job.decisions for _, job in begun]

    def _run(self) -> None:
        """Steps of vLLM until all jobs are done."""
        idle = 0
        while not all(job.done for job in jobs.values()):
            idle = 0 if self._step() else idle + 1
            if idle > MOST_IDLE_STEPS:
                raise EdgespecError("vLLM runs none of a forward's requests: give it more --kv-memory.")

    def _forget(self) -> None:
        """A step failed. vLLM counts its rows as computed and offers them to others: no request goes on from there."""
        for session in list(self._holders.values()):
            session.end_request()
        self._core.reset_prefix_cache()

    def _make_room(self, running: set[int]) -> None:
        """vLLM counts requests that run in no step too: the oldest of the other sessions give way."""
        others = [one for one in self._holders.values() if id(one) not in running]
        for session in others[: max(0, len(others) + len(running) - self._most)]:
            session.end_request()

    def _step(self) -> bool:
        """One step of vLLM; whether anything ran."""
        outputs, ran = self._core.step_fn()
        self._core.post_step(ran)
        for one in (one for group in (outputs or {}).values() for one in group.outputs):
            job = jobs[one.request_id]
            if one.new_token_ids and isinstance(job, Job):
                job.take(decided[one.request_id], len(one.new_token_ids))
        return bool(ran)
