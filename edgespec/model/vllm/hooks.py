"""Where vLLM asks edgespec: which drafts a step verifies, and which tokens its logits give. vLLM 0.32, V1 model runner.

Three of vLLM's extension points are used: `scheduler_cls`, `worker_cls`, and speculative decoding's "custom_class".
The scheduler runs in this process and finds the forward's jobs here. Workers may be other processes, one a shard: what
they must know of the jobs goes with the step to them, and what they decided comes back with its output.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any

import numpy as np
import torch
from vllm.platforms import current_platform
from vllm.v1.core.sched.scheduler import Scheduler
from vllm.v1.outputs import SamplerOutput

from edgespec.core.decided_tree import DecidedTree
from edgespec.model.sampling import Rows, decide_together
from edgespec.model.target_engine import Decisions
from edgespec.model.vllm.jobs import Share, decided, jobs

if current_platform.is_cpu():
    from vllm.v1.worker.cpu_worker import CPUWorker as PlatformWorker
else:
    from vllm.v1.worker.gpu_worker import Worker as PlatformWorker


class NoProposer:
    """vLLM's drafter: it switches verification on, and proposes nothing itself."""

    def __init__(self, vllm_config: Any) -> None: ...
    def load_model(self, *arguments: Any) -> None: ...
    def dummy_run(self, *arguments: Any, **options: Any) -> None: ...

    def propose(self, sampled_token_ids: list[list[int]], *arguments: Any, **options: Any) -> list[list[int]]:
        return [[] for _ in sampled_token_ids]


class EdgeScheduler(Scheduler):  # type: ignore[misc]
    """Runs the requests of the forward's jobs with their drafts, and leaves all others out of the step."""

    running: list[Any]
    max_num_active_reqs: int
    num_spec_tokens: int

    def schedule(self, throttle_prefills: bool = False) -> Any:
        held, ready = [], []
        for request in self.running:
            job = jobs.get(request.request_id)
            if job is None or job.done:
                held.append(request)
                continue
            if request.num_computed_tokens >= request.num_prompt_tokens:
                request.spec_token_ids = job.left[: self.num_spec_tokens]
            ready.append(request)
        room, drafted = self.max_num_active_reqs, self.num_spec_tokens
        self.running, self.max_num_active_reqs = ready, room - len(held)
        self.num_spec_tokens = 0  # a lone row is not padded with rows that nobody planned
        try:
            step = super().schedule(throttle_prefills)
        finally:
            self.running.extend(held)
            self.max_num_active_reqs, self.num_spec_tokens = room, drafted
        step.edgespec = {name: jobs[name].share for name in step.num_scheduled_tokens}
        return step

    def _reserve_prefill_lookahead(self, request: Any, num_computed_tokens: int, num_new_tokens: int) -> int:
        """vLLM asks here how much of a text a step reads: as much as its forward was planned to."""
        rows = super()._reserve_prefill_lookahead(request, num_computed_tokens, num_new_tokens)
        return jobs[request.request_id].rows(num_computed_tokens, rows)

    def update_from_output(self, step: Any, output: Any) -> Any:
        decided.update(getattr(output, "edgespec", {}))
        return super().update_from_output(step, output)

    def update_draft_token_ids(self, draft_token_ids: Any) -> None:
        """Drafts come from the jobs alone."""


class EdgeWorker(PlatformWorker):  # type: ignore[misc]
    """Its model runner decides by edgespec's rule."""

    shares: Mapping[str, Share]
    decided: dict[str, Decisions]

    def init_device(self) -> None:
        super().init_device()
        self.shares, self.decided = {}, {}
        self.model_runner._sample = partial(_coupled_sample, self)

    def execute_model(self, step: Any) -> Any:
        self.shares, self.decided = getattr(step, "edgespec", {}), {}
        return super().execute_model(step)

    def sample_tokens(self, grammar_output: Any) -> Any:
        output = super().sample_tokens(grammar_output)
        if self.decided:
            output.edgespec = self.decided
        return output


def _coupled_sample(worker: EdgeWorker, logits: torch.Tensor, metadata: Any) -> SamplerOutput:
    """In place of vLLM's sampler and rejection sampler: every row's token by edgespec's sampling; a request's rows are
    committed while they agree with its drafts."""
    batch = worker.model_runner.input_batch
    ids = list(batch.req_ids)
    counts = [0] * len(ids) if metadata is None else list(metadata.num_draft_tokens)
    drafts = [] if metadata is None else metadata.draft_token_ids.tolist()
    rows, start = [], 0
    for i, (name, count) in enumerate(zip(ids, counts, strict=True)):
        share, first = worker.shares[name], int(batch.num_tokens_no_spec[i])
        positions = np.arange(first, first + count + 1)
        chain = DecidedTree.chain(drafts[start : start + count])
        rows.append(Rows(share.sampling, share.seed, positions, chain, share.rows(count + 1)))
        start += count
    decisions = decide_together(logits.float(), rows)
    out = torch.full((len(ids), max(counts) + 1), -1, dtype=torch.int32)
    for i, (name, decision) in enumerate(zip(ids, decisions, strict=True)):
        committed = len(decision.path) + 1
        out[i, :committed] = torch.from_numpy(decision.tokens[:committed])
        worker.decided[name] = decision
    return SamplerOutput(sampled_token_ids=out.to(logits.device), logprobs_tensors=None)
