"""A request's parameters as `SamplingParams`, one for each text that it asks for."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from edgespec.api.ask import Ask
from edgespec.api.door import Door
from edgespec.api.errors import ApiError, refused
from edgespec.api.guides import guide_of
from edgespec.api.schema import SamplingRequest
from edgespec.core.errors import EdgespecError
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
    logprobs: bool,
    chat: Chat | None = None,
    calls: Guide | None = None,
) -> list[Ask]:
    """Every text of a request: `n` for each prompt. chat: see `Ask`. calls: what an answer that must call a tool looks
    like. Raises ApiError."""
    guide = guide_of(request)
    if guide is not None and calls is not None:
        raise refused(
            "tool_choice", "an answer that must call a tool has no other form: leave one of them out."
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
            replace(
                _params(request, door.source.sampling, max_new_tokens, logprobs, number), guide=calls or guide
            ),
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
    request: SamplingRequest, recommended: Mapping[str, Any], max_new_tokens: int, logprobs: bool, number: int
) -> SamplingParams:
    stop = request.stop or ()
    defaults = {"temperature": 1.0, **recommended}
    try:
        return SamplingParams(
            temperature=_or(request.temperature, defaults["temperature"]),
            top_k=max(0, int(_or(request.top_k, defaults.get("top_k", 0)))),
            top_p=_or(request.top_p, defaults.get("top_p", 1.0)),
            min_p=_or(request.min_p, defaults.get("min_p", 0.0)),
            repetition_penalty=_or(request.repetition_penalty, defaults.get("repetition_penalty", 1.0)),
            logit_bias=request.logit_bias or {},
            presence_penalty=_or(request.presence_penalty, 0.0),
            frequency_penalty=_or(request.frequency_penalty, 0.0),
            min_tokens=request.min_tokens or 0,
            stop_token_ids=tuple(request.stop_token_ids or ()),
            bad_words=tuple(request.bad_words or ()),
            seed=None if request.seed is None else (request.seed + number) % SEEDS,
            max_new_tokens=max_new_tokens,
            stop=(stop,) if isinstance(stop, str) else tuple(stop),
            ignore_eos=bool(request.ignore_eos),
            logprobs=logprobs,
        )
    except ApiError:
        raise
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


def _or(value: float | None, default: float) -> float:
    return default if value is None else value
