"""A directory for tests: an HTTP server that answers `POST /where` as a test says, and counts the questions."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from edgespec.core.address import Address
from edgespec.core.where import Place, Question
from edgespec.server.server import Server

Answer = tuple[int, Mapping[str, str], bytes]


class StubDirectory:
    """answer: of each question. `questions` are those that came; headers: of the last one."""

    def __init__(self, answer: Callable[[Question], Answer]) -> None:
        self.answer = answer
        self.questions: list[Question] = []
        self.headers: Mapping[str, str] = {}
        self.url = ""


def place_of(server: Server, **changes: object) -> Answer:
    """The answer of this server, or one with other fields."""
    fields = json.loads(Place(Address("127.0.0.1", server.port), server.target_id).to_json())
    return 200, {}, json.dumps({**fields, **changes}).encode()


def refusal(status: int, sentence: str, **headers: str) -> Answer:
    return (
        status,
        {name.replace("_", "-"): value for name, value in headers.items()},
        json.dumps({"error": sentence}).encode(),
    )


@contextmanager
def directory(answer: Callable[[Question], Answer]) -> Iterator[StubDirectory]:
    stub = StubDirectory(answer)

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            question = Question.from_json(body)
            stub.questions.append(question)
            stub.headers = dict(self.headers)
            status, headers, answer = stub.answer(question)
            self.send_response(status)
            for name, value in headers.items():
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(answer)))
            self.end_headers()
            self.wfile.write(answer)

        def log_message(self, format: str, *args: object) -> None:
            """Nothing."""

    httpd = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    httpd.daemon_threads = True
    thread = threading.Thread(target=lambda: httpd.serve_forever(0.01), daemon=True)
    thread.start()
    stub.url = f"http://127.0.0.1:{httpd.server_address[1]}"
    try:
        yield stub
    finally:
        httpd.shutdown()
        httpd.server_close()
        thread.join()
