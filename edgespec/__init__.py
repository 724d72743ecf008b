"""edgespec: exact, fast large-model text on devices that cannot hold the large model.

A draft model runs here, on the edge; the target verifies on a server; early exits send hints meanwhile. The text is
exactly the target's own. Start with `Session` (the edge), `serve` (the server) and `compile` (a draft engine).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from edgespec._version import __version__

if TYPE_CHECKING:
    from edgespec.core.errors import EdgespecError
    from edgespec.core.params import SamplingParams
    from edgespec.edge.async_session import AsyncSession
    from edgespec.edge.link_options import LinkOptions
    from edgespec.edge.session import Session
    from edgespec.edge.step import Step
    from edgespec.engines.compiling import compile
    from edgespec.server.gate import ServerSecurity
    from edgespec.server.server import serve

_HOMES = {
    "AsyncSession": "edgespec.edge.async_session",
    "EdgespecError": "edgespec.core.errors",
    "ServerSecurity": "edgespec.server.gate",
    "LinkOptions": "edgespec.edge.link_options",
    "SamplingParams": "edgespec.core.params",
    "Session": "edgespec.edge.session",
    "Step": "edgespec.edge.step",
    "compile": "edgespec.engines.compiling",
    "serve": "edgespec.server.server",
}

__all__ = [
    "AsyncSession",
    "EdgespecError",
    "LinkOptions",
    "SamplingParams",
    "ServerSecurity",
    "Session",
    "Step",
    "__version__",
    "compile",
    "serve",
]


def __getattr__(name: str) -> Any:
    """Import on first use: `import edgespec` is cheap, and an edge never pays for the server."""
    if name not in _HOMES:
        raise AttributeError(f"module 'edgespec' has no attribute {name!r}")
    import importlib

    return getattr(importlib.import_module(_HOMES[name]), name)
