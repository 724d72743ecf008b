"""`POST /where` on the API's port: the question goes on to the server beside the API, and its answer comes back."""

import urllib.error
import urllib.request

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from edgespec.api.turning import in_thread
from edgespec.core.where import MOST_BYTES, TOO_LONG, may_be_read

TIMEOUT_S = 5.0


def where_route(url: str) -> Route:
    """url: of the server's own /where."""

    async def where(request: Request) -> Response:
        if not may_be_read(request.headers.get("content-length")):
            return JSONResponse({"error": TOO_LONG}, 413)
        status, retry_after, body = await in_thread(_ask, url, await request.body())
        headers = {} if retry_after is None else {"Retry-After": retry_after}
        return Response(body, status, headers, media_type="application/json")

    return Route("/where", where, methods=["POST"])


def _ask(url: str, body: bytes) -> tuple[int, str | None, bytes]:
    try:
        with urllib.request.urlopen(url, body, timeout=TIMEOUT_S) as answer:
            return answer.status, None, answer.read(MOST_BYTES)
    except urllib.error.HTTPError as refusal:
        with refusal:
            return refusal.code, refusal.headers.get("Retry-After"), refusal.read(MOST_BYTES)
    except OSError:
        return 503, "1", b'{"error": "the server beside this API does not answer"}'
