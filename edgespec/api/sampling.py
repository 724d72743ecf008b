"""A request's parameters as `SamplingParams`, one for each text that it asks for."""

from collections.abc import Mapping, Sequence
from typing import Any

from edgespec.api.ask import Ask
from edgespec.api.door import Door
from edgespec.api.errors import ApiError, refused
from edgespec.api.guides import guide_of
from edgespec.api.schema import SamplingRequest
from edgespec.core.errors import EdgespecError
from edgespec.core.generation_config import with_defaults
from edgespec.core.guide import Guide
from edgespec.core.params import SamplingParams
from edgespec.drafting.modes import policy
from edgespec.edge.prompt import Chat

SEEDS = 2**64


def asks(
    door: Door,
    request: SamplingRequest,
    prompts: Sequence[Sequence[int]],
    prompt_param: str,
    max_new_tokens: int,
    logprobs: int | None,
    chat: Chat | None = None,
    calls: Guide | None = None,
) -> list[Ask]:
    """Every text of a request: `n` for each prompt. Raises ApiError.

    logprobs: how many of the likeliest tokens are reported beside each token's own; None: not even that.
    chat: see `Ask`. calls: what an answer that calls tools looks like.
    """
    guide = guide_of(request)
    if guide is not None and calls is not None:
        raise refused(
            "tools",
            "an answer whose calls must fit the tools' schemas has no other form: leave tool_choice and strict out, or "
            "the form.",
        )
    choices = request.n or 1
    if choices > door.limits.choices:
        raise refused("n", f"at most {door.limits.choices} are offered.")
    mode = _mode(door, request)
    if request.edgespec.offline and door.source.link.offline_after_s is None:
        raise refused("edgespec.offline", "this device was started without --offline-after-s.")
    return [
        Ask(
            prompt,
            prompt_param,
            _params(request, door.source.sampling, max_new_tokens, logprobs, number, calls or guide),
            mode,
            request.edgespec.objective,
            request.edgespec.draft_tokens,
            request.edgespec.latency_ms,
            request.edgespec.offline,
            chat,
        )
        for prompt in prompts
        for number in range(choices)
    ]


def _params(
    request: SamplingRequest,
    recommended: Mapping[str, Any],
    max_new_tokens: int,
    logprobs: int | None,
    number: int,
    guide: Guide | None,
) -> SamplingParams:
    stop = request.stop or ()
    chosen: dict[str, Any] = {
        "temperature": request.temperature,
        "top_k": None if request.top_k is None else max(0, request.top_k),
        "top_p": request.top_p,
        "min_p": request.min_p,
        "repetition_penalty": request.repetition_penalty,
        "presence_penalty": request.presence_penalty,
        "frequency_penalty": request.frequency_penalty,
        "logit_bias": request.logit_bias or {},
        "min_tokens": request.min_tokens or 0,
        "stop_token_ids": tuple(request.stop_token_ids or ()),
        "bad_words": tuple(request.bad_words or ()),
        "guide": guide,
        "seed": None if request.seed is None else (request.seed + number) % SEEDS,
        "max_new_tokens": max_new_tokens,
        "stop": (stop,) if isinstance(stop, str) else tuple(stop),
        "ignore_eos": bool(request.ignore_eos),
        "logprobs": logprobs is not None,
        "top_logprobs": logprobs or 0,
    }
    chosen = {name: value for name, value in chosen.items() if value is not None}
    try:
        return with_defaults(chosen, {"temperature": 1.0, **recommended})
    except EdgespecError as error:
        raise ApiError(400, str(error), param=str(error).split()[0]) from None


def _mode(door: Door, request: SamplingRequest) -> str:
    """Raises ApiError."""
    options = request.edgespec
    mode = options.mode or door.modes[0]
    if mode not in door.modes:
        raise refused("edgespec.mode", f"{mode!r} is not offered: choose one of {', '.join(door.modes)}.")
    try:
        policy(mode, options.draft_tokens, options.objective)
    except EdgespecError as error:
        raise refused("edgespec.objective", str(error)) from None
    return mode
