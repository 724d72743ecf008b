"""What a forward asks of vLLM: rows that agree are committed step by step, and none is decided twice."""

from __future__ import annotations

import pickle
from dataclasses import replace
from typing import Any

import numpy as np

from edgespec.core.params import SamplingParams
from edgespec.core.row_constraints import RowConstraints
from edgespec.model.target_engine import Decisions, TopTokens
from edgespec.model.vllm.jobs import Job, chain_of


def job(chain: list[int], constraints: RowConstraints | None = None) -> Job:
    from types import SimpleNamespace

    request: Any = SimpleNamespace(sampling=SamplingParams(), seed=1, constraints=constraints)
    return Job(request, chain)


def decided(*tokens: int) -> Decisions:
    array = np.array(tokens, np.int32)
    return Decisions(array, -array.astype(np.float32), array.astype(np.float32), np.empty(0, np.int32))


def test_a_chain_that_agrees_is_committed_whole_with_one_token_more() -> None:
    one = job([5, 6])
    one.take(decided(5, 6, 7), 3)
    assert one.done and one.tokens.tolist() == [5, 6, 7]
    assert one.decisions.path.tolist() == [1, 2]
    assert one.logprobs.tolist() == [-5.0, -6.0, -7.0]


def test_rows_behind_the_first_that_disagrees_stay_undecided() -> None:
    one = job([5, 6, 7])
    one.take(decided(5, 9, 1, 1), 2)
    assert one.done and one.tokens.tolist() == [5, 9, -1, -1]
    assert one.decisions.path.tolist() == [1]


def test_a_prompt_that_was_just_read_has_its_chain_verified_in_the_next_step() -> None:
    one = job([5, 6])
    one.take(decided(5), 1)
    assert not one.done and one.left == [6]
    one.take(decided(6, 8), 2)
    assert one.done and one.tokens.tolist() == [5, 6, 8]
    other = job([5, 6])
    other.take(decided(4), 1)
    assert other.done and other.tokens.tolist() == [4, -1, -1]


def test_the_likeliest_tokens_of_all_steps_come_one_after_another() -> None:
    one = job([5, 6])
    for token, rows in ((5, 1), (6, 2)):
        tokens = np.full((rows, 2), token, np.int32)
        one.take(
            replace(decided(*range(token, token + rows)), top=TopTokens(tokens, -tokens.astype(np.float32))),
            rows,
        )
    assert one.top is not None and one.top.tokens[:, 0].tolist() == [5, 6, 6]
    assert job([5]).top is None


def test_a_step_has_the_constraints_of_its_own_rows() -> None:
    allowed = np.arange(6, dtype=np.int32).reshape(3, 2)
    one = job([5, 6], RowConstraints(None, None, allowed))
    one.take(decided(5), 1)
    share = pickle.loads(pickle.dumps(one.share))  # as another process gets it
    rest = share.rows(2)
    assert rest is not None and rest.allowed is not None
    assert rest.allowed.tolist() == allowed[1:].tolist()


def test_the_chain_is_what_the_decided_rows_behind_the_text_hold() -> None:
    assert chain_of([1, 2, 3, 4], [1, 2, 3]) == [3, 4]
