"""The routes. `create_app` joins a door with its access rules."""

from __future__ import annotations

import time
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from functools import partial
from typing import TYPE_CHECKING, Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.middleware.cors import CORSMiddleware
from starlette.responses import JSONResponse, PlainTextResponse, Response

from edgespec._version import __version__
from edgespec.api.access import Access, AccessControl
from edgespec.api.answer import Answer
from edgespec.api.ask import Ask
from edgespec.api.chat import chat_asks, streamed_chat, whole_chat
from edgespec.api.completions import completion_asks, streamed_completion, whole_completion
from edgespec.api.door import Door, TextStep
from edgespec.api.errors import ApiError, ErrorAnswer
from edgespec.api.holder import holder
from edgespec.api.page_routes import page_routes
from edgespec.api.responses import response_asks, streamed_response, whole_response
from edgespec.api.responses_schema import ResponsesRequest
from edgespec.api.schema import ChatRequest, CompletionRequest, SamplingRequest
from edgespec.api.where_route import where_route

if TYPE_CHECKING:
    from edgespec.api.tracing import Tracing

METRICS_TYPE = "text/plain; version=0.0.4; charset=utf-8"

UNION_TAGS = ("str", "int", "bool", "float")
"""pydantic adds the alternative that it tried to the place of an error."""

STREAMED: dict[int | str, dict[str, Any]] = {
    200: {"content": {"text/event-stream": {"schema": {"type": "string"}}}}
}
"""For the OpenAPI document: what an answer is beside JSON."""

Pieces = Callable[[Door, Any, AsyncIterator[TextStep]], AsyncGenerator[bytes, None]]


def create_app(
    door: Door, access: Access, where_url: str | None = None, tracing: Tracing | None = None
) -> FastAPI:
    """where_url: of the /where of the server beside this API, which is then here too. tracing: where spans go."""
    app = _application(door, access, tracing)
    _offer_facts(app, door)
    _offer_texts(app, partial(_answer, door, tracing))
    app.router.routes.extend(page_routes())
    if where_url is not None:
        app.router.routes.append(where_route(where_url))
    return app


def _application(door: Door, access: Access, tracing: Tracing | None) -> FastAPI:
    """Without routes."""

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        yield
        door.close()
        if tracing is not None:
            tracing.close()

    cors = Middleware(
        CORSMiddleware, allow_origins=list(access.origins), allow_methods=["*"], allow_headers=["*"]
    )
    app = FastAPI(
        title="edgespec",
        version=__version__,
        lifespan=lifespan,
        docs_url=None,  # both pages load scripts from elsewhere
        redoc_url=None,
        responses={"4XX": {"model": ErrorAnswer}, "5XX": {"model": ErrorAnswer}},
        middleware=[Middleware(AccessControl, access=access), *([cors] if access.origins else [])],
    )
    app.add_exception_handler(ApiError, _api_error)
    app.add_exception_handler(RequestValidationError, _invalid)
    app.add_exception_handler(HTTPException, _http_error)
    return app


def _offer_facts(app: FastAPI, door: Door) -> None:
    """What is known without a text."""
    started = int(time.time())

    @app.head("/health", include_in_schema=False)
    @app.get("/health")
    async def health() -> dict[str, str]:
        return {"status": "ok"}

    @app.head("/version", include_in_schema=False)
    @app.get("/version")
    async def version() -> dict[str, str]:
        return {"version": __version__}

    @app.head("/metrics", include_in_schema=False)
    @app.get("/metrics", response_class=PlainTextResponse)
    async def metrics() -> Response:
        return Response(door.metrics.exposition(), media_type=METRICS_TYPE)

    @app.head("/v1/models", include_in_schema=False)
    @app.get("/v1/models")
    async def models() -> dict[str, Any]:
        return {"object": "list", "data": [_model(door, started)]}

    @app.head("/v1/models/{name:path}", include_in_schema=False)
    @app.get("/v1/models/{name:path}")
    async def model(name: str) -> dict[str, Any]:
        _check_model(door, name)
        return _model(door, started)


def _offer_texts(app: FastAPI, answer: Callable[..., Awaitable[Response]]) -> None:
    @app.post("/v1/chat/completions", responses=STREAMED)
    async def chat(request: Request, body: ChatRequest) -> Response:
        return await answer(request, body, chat_asks, (whole_chat, streamed_chat))

    @app.post("/v1/completions", responses=STREAMED)
    async def completions(request: Request, body: CompletionRequest) -> Response:
        return await answer(request, body, completion_asks, (whole_completion, streamed_completion))

    @app.post("/v1/responses", responses=STREAMED)
    async def responses(request: Request, body: ResponsesRequest) -> Response:
        return await answer(request, body, response_asks, (whole_response, streamed_response))


async def _answer(
    door: Door,
    tracing: Tracing | None,
    request: Request,
    body: SamplingRequest | ResponsesRequest,
    asks: Callable[[Door, Any], Sequence[Ask]],
    shapes: tuple[Pieces, Pieces],
) -> Response:
    body.check_offered()
    if body.model is not None:
        _check_model(door, body.model)
    address = request.client.host if request.client else ""
    who = holder(address, request.headers.get("authorization", ""), body.user or "")
    texts = door.texts(partial(asks, door, body), who)
    if tracing is not None:
        texts = tracing.traced(texts, door.model, request.url.path, request.headers)
    pieces = shapes[bool(body.stream)](door, body, texts)
    return Answer(pieces, texts, bool(body.stream), door.limits.stalled_s)


def _check_model(door: Door, name: str) -> None:
    if name not in (door.model, door.store.target_id):
        raise ApiError(
            404, f"there is no model {name!r}: ask for {door.model!r}.", param="model", code="model_not_found"
        )


def _model(door: Door, started: int) -> dict[str, Any]:
    return {
        "id": door.model,
        "object": "model",
        "created": started,
        "owned_by": "edgespec",
        "root": door.store.target_id,
        "edgespec": {"modes": door.modes, "offline": door.source.link.offline_after_s is not None},
    }


async def _api_error(_: Request, error: Exception) -> Response:
    assert isinstance(error, ApiError)
    return JSONResponse(error.body(), error.status, error.headers)


async def _http_error(request: Request, error: Exception) -> Response:
    """No such path or method, or a body that cannot be read."""
    assert isinstance(error, HTTPException)
    if isinstance(error.__cause__, ApiError):
        return await _api_error(request, error.__cause__)
    refused = ApiError(error.status_code, f"{request.method} {request.url.path}: {error.detail}.")
    return JSONResponse(refused.body(), refused.status, dict(error.headers or {}))


async def _invalid(_: Request, error: Exception) -> Response:
    """What is wrong with a request's body, by its parameter; of several readings, what the furthest one says."""
    assert isinstance(error, RequestValidationError)
    first = max(error.errors(), key=lambda one: len(one["loc"]))
    param = ""
    for part in first["loc"][1:]:
        if isinstance(part, int):
            param += f"[{part}]"
        elif part.isidentifier() and part[0].islower() and part not in UNION_TAGS:
            param += f".{part}" if param else part
    if first["type"] == "json_invalid":
        return await _api_error(_, ApiError(400, f"the body is not JSON ({first['ctx']['error']})."))
    message = first["msg"].removeprefix("Value error, ")
    return await _api_error(_, ApiError(400, f"{param or 'body'}: {message}.", param=param or None))
