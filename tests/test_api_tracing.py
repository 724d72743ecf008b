"""Spans of requests and their texts, as OpenTelemetry's own library gives them out."""

import json
import threading
import urllib.request
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

pytest.importorskip("fastapi")
pytest.importorskip("uvicorn")
pytest.importorskip("opentelemetry.exporter.otlp.proto.http")

from api_server import open_api, post
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from edgespec.api.tracing import Tracing

PARENT = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


@pytest.fixture
def traced() -> Iterator[tuple[str, InMemorySpanExporter]]:
    spans = InMemorySpanExporter()
    with open_api(tracing=Tracing(SimpleSpanProcessor(spans))) as (url, _):
        yield url, spans


def by_name(spans: InMemorySpanExporter) -> dict[str, list[Any]]:
    found: dict[str, list[Any]] = {}
    for span in spans.get_finished_spans():
        found.setdefault(span.name, []).append(span)
    return found


def test_a_request_has_a_span_with_one_for_each_text(traced: tuple[str, InMemorySpanExporter]) -> None:
    url, spans = traced
    body = {"messages": [{"role": "user", "content": "HI"}], "max_tokens": 5, "n": 2, "temperature": 0}
    status, answer, _ = post(f"{url}/v1/chat/completions", body, {"traceparent": PARENT})
    assert status == 200
    found = by_name(spans)
    [request] = found["chat edgespec"]
    assert f"{request.context.trace_id:032x}" == PARENT.split("-")[1]
    assert f"{request.parent.span_id:016x}" == PARENT.split("-")[2]
    assert request.attributes["gen_ai.request.max_tokens"] == 5
    assert request.attributes["gen_ai.request.choice.count"] == 2
    for index, text in enumerate(found["text"]):
        assert text.parent.span_id == request.context.span_id
        assert text.attributes["edgespec.index"] == index
        assert text.attributes["gen_ai.usage.output_tokens"] == 5
        assert text.attributes["gen_ai.usage.input_tokens"] == answer["usage"]["prompt_tokens"]
        assert text.attributes["gen_ai.response.finish_reasons"] == ("length",)
        assert text.attributes["edgespec.target_forwards"] > 0
        assert [event.name for event in text.events] == ["first token"]


def test_spans_leave_for_the_collector_by_otlp() -> None:
    taken: list[tuple[str, bytes]] = []

    class Collector(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            taken.append((self.path, self.rfile.read(int(self.headers["Content-Length"]))))
            self.send_response(200)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *_: Any) -> None:
            """Say nothing."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Collector) as collector:
        threading.Thread(target=collector.serve_forever, daemon=True).start()
        tracing = Tracing.to(f"http://127.0.0.1:{collector.server_address[1]}/v1/traces")
        with open_api(tracing=tracing) as (url, _):
            assert post(f"{url}/v1/completions", {"prompt": "HI", "max_tokens": 2})[0] == 200
        collector.shutdown()  # the API has ended, and sent what was left
    [(path, body)] = taken
    assert path == "/v1/traces" and b"text_completion edgespec" in body and b"edgespec.rtt_ms" in body


def test_a_text_whose_client_goes_has_a_span_that_says_so(traced: tuple[str, InMemorySpanExporter]) -> None:
    url, spans = traced
    body = json.dumps({"prompt": "HI", "max_tokens": 100_000, "stream": True}).encode()
    asked = urllib.request.Request(f"{url}/v1/completions", body, {"Content-Type": "application/json"})
    with urllib.request.urlopen(asked, timeout=30) as answer:
        assert answer.readline().startswith(b"data: ")
    while "text_completion edgespec" not in by_name(spans):
        urllib.request.urlopen(f"{url}/health").close()
    [text] = by_name(spans)["text"]
    assert text.attributes["gen_ai.response.finish_reasons"] == ("cancelled",)
    [request] = by_name(spans)["text_completion edgespec"]
    assert not request.status.is_ok
