"""Who may ask: API keys, the browser's origin, and how large a request may be. Plain ASGI, before anything is parsed.

Without a key the API serves this machine only, and a web page must not reach it through the browser: the Host must be a
loopback name (so that no other name can be rebound to it), and an Origin must be this API's own or an allowed one.
"""

import hmac
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from urllib.parse import urlsplit

from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from edgespec.api.errors import ApiError
from edgespec.api.page_routes import FILES
from edgespec.core.access import is_loopback
from edgespec.core.errors import EdgespecError

OPEN_PATHS = frozenset({"/health", *FILES})
"""What needs no key: the page asks for one itself."""

LEAST_KEY = 16


@dataclass(frozen=True)
class Access:
    """keys: any of them is enough; none: only this machine is served. origins: of web pages that may ask."""

    keys: Sequence[str] = field(default=(), repr=False)
    origins: Sequence[str] = ()
    body_bytes: int = 4 << 20

    def check(self, host: str) -> None:
        """Raises EdgespecError for an address that strangers could reach, or a key that is easily guessed."""
        if not self.keys and not is_loopback(host):
            raise EdgespecError(
                f"{host} can be reached from other machines, and so needs an API key: give --api-key-file or "
                "EDGESPEC_API_KEY, or listen on 127.0.0.1."
            )
        if any(len(key) < LEAST_KEY for key in self.keys):
            raise EdgespecError(f"an API key needs {LEAST_KEY} characters at least: choose a random one.")

    def refusal(self, path: str, headers: Mapping[str, str]) -> ApiError | None:
        """Why this request may not come in; None: it may."""
        host, origin = headers.get("host", ""), headers.get("origin")
        if not self.keys and not is_loopback(urlsplit(f"//{host}").hostname or ""):
            return ApiError(403, f"this API serves 127.0.0.1 and localhost only, not {host!r}.", code="host")
        if origin and origin not in self.origins and urlsplit(origin).netloc != host:
            return ApiError(
                403, f"pages of {origin} may not ask: allow them with --cors-origin.", code="origin"
            )
        if self.keys and path not in OPEN_PATHS and not self._known(headers.get("authorization", "")):
            return ApiError(401, "give the API key as `Authorization: Bearer KEY`.", code="invalid_api_key")
        if int(headers.get("content-length") or 0) > self.body_bytes:
            return self.too_large()
        return None

    def too_large(self) -> ApiError:
        return ApiError(413, f"the request is larger than {self.body_bytes} bytes: send less.")

    def _known(self, authorization: str) -> bool:
        scheme, _, shown = authorization.partition(" ")
        matches = [hmac.compare_digest(shown.strip().encode(), key.encode()) for key in self.keys]
        return scheme.lower() == "bearer" and any(matches)


class AccessControl:
    """The ASGI application behind its access rules."""

    def __init__(self, app: ASGIApp, access: Access) -> None:
        self._app = app
        self._access = access

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return await self._app(scope, receive, send)
        headers = {name.decode("latin-1"): value.decode("latin-1") for name, value in scope["headers"]}
        preflight = scope["method"] == "OPTIONS" and "access-control-request-method" in headers
        refusal = None if preflight else self._access.refusal(scope["path"], headers)
        if refusal is not None:
            return await JSONResponse(refusal.body(), refusal.status)(scope, receive, send)
        left = self._access.body_bytes

        async def bounded() -> Message:
            nonlocal left
            message = await receive()
            left -= len(message.get("body", b""))
            if left < 0:
                raise self._access.too_large()
            return message

        await self._app(scope, bounded, send)
