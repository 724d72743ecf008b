"""Spans for OpenTelemetry: one for each request, and one in it for each text. Off unless a `Tracing` is made.

Names and attributes are those of the GenAI conventions where they have one, else `edgespec.*`. A request's
`traceparent` header makes its span part of the caller's trace.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from opentelemetry import propagate, trace
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import SERVICE_NAME, Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanProcessor

from edgespec._version import __version__

if TYPE_CHECKING:
    from edgespec.api.ask import Ask
    from edgespec.api.door import TextStep

OPERATIONS = {
    "/v1/chat/completions": "chat",
    "/v1/completions": "text_completion",
    "/v1/responses": "generate_content",
}
"""A path -> the operation's name in the conventions."""


class Tracing:
    """The spans of one API. They leave in batches, from a thread of the library."""

    def __init__(self, processor: SpanProcessor) -> None:
        resource = Resource.create({SERVICE_NAME: "edgespec", "service.version": __version__})
        self._provider = TracerProvider(resource=resource)
        self._provider.add_span_processor(processor)
        self._tracer = self._provider.get_tracer("edgespec.api", __version__)

    @classmethod
    def to(cls, endpoint: str) -> Tracing:
        """endpoint: URL that takes OTLP traces by HTTP, such as http://127.0.0.1:4318/v1/traces."""
        return cls(BatchSpanProcessor(OTLPSpanExporter(endpoint)))

    def close(self) -> None:
        """Send what is left."""
        self._provider.shutdown()

    async def traced(
        self,
        texts: AsyncGenerator[TextStep, None],
        model: str,
        path: str,
        headers: Mapping[str, str],
    ) -> AsyncGenerator[TextStep, None]:
        """The steps of one request's texts, as they come. path, headers: of the request."""
        span = self._tracer.start_span(
            f"{OPERATIONS[path]} {model}",
            context=propagate.extract(headers),
            kind=trace.SpanKind.SERVER,
            attributes=_request(model, path),
        )
        one: _TextSpan | None = None
        try:
            async for step in texts:
                if one is None:
                    span.set_attributes(_asked(step.asks))
                if one is None or one.index != step.index:
                    one = _TextSpan(self._tracer, span, step)
                if one.add(step):
                    one.end()
                yield step
            span.set_status(trace.StatusCode.OK)
        except BaseException as error:  # also where the client has gone
            span.record_exception(error)
            span.set_status(trace.StatusCode.ERROR, type(error).__name__)
            raise
        finally:
            if one is not None:
                one.end()
            span.end()
            await texts.aclose()


class _TextSpan:
    """One text, from its first step to its last."""

    def __init__(self, tracer: trace.Tracer, request: trace.Span, step: TextStep) -> None:
        self.index = step.index
        self._begun = step.opened.before
        self._tokens = 0
        self._last = step
        self._span = tracer.start_span(
            "text", context=trace.set_span_in_context(request), attributes={"edgespec.index": step.index}
        )

    def add(self, step: TextStep) -> bool:
        """Whether the text ends with this step."""
        if step.step.tokens and not self._tokens:
            self._span.add_event("first token")
        for note in step.step.events:
            self._span.add_event("link", {"edgespec.note": note})
        self._tokens += len(step.step.tokens)
        self._last = step
        return step.step.finish_reason is not None

    def end(self) -> None:
        """Once is enough: a span that has ended stays as it is."""
        if not self._span.is_recording():
            return
        session, now, before = self._last.opened.session, self._last.step.statistics, self._begun
        counts = {
            f"edgespec.{name}": getattr(now, name) - getattr(before, name)
            for name in ("target_forwards", "drafted", "sent", "accepted", "hints_hit", "link_losses")
        }
        self._span.set_attributes(
            _given(
                {
                    "gen_ai.usage.input_tokens": len(session.all_tokens) - len(session.tokens),
                    "gen_ai.usage.output_tokens": self._tokens,
                    "gen_ai.response.finish_reasons": [self._last.step.finish_reason or "cancelled"],
                    "edgespec.reused_tokens": self._last.opened.reused,
                    "edgespec.rtt_ms": now.rtt_ms,
                    **counts,
                }
            )
        )
        self._span.end()


def _request(model: str, path: str) -> dict[str, Any]:
    return {
        "url.path": path,
        "gen_ai.operation.name": OPERATIONS[path],
        "gen_ai.request.model": model,
    }


def _asked(asks: Sequence[Ask]) -> dict[str, Any]:
    """Known once the request's prompt has been read."""
    params = asks[0].params
    return _given(
        {
            "gen_ai.request.choice.count": len(asks),
            "gen_ai.request.max_tokens": params.max_new_tokens,
            "gen_ai.request.temperature": params.temperature,
            "gen_ai.request.top_p": params.top_p,
            "edgespec.mode": asks[0].mode,
        }
    )


def _given(attributes: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in attributes.items() if value is not None}
