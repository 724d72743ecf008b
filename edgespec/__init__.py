"""edgespec: fast text from a large model, for devices that cannot hold it.

A small draft model runs on the device (the edge), the large target model on a server. The edge drafts tokens, the
target verifies them, and early exits inside the target send hints meanwhile. The text is exactly the target's own.

Start with `Session` on the device, `serve` on the server, and `compile` to build a draft engine.
"""

from __future__ import annotations

import importlib
import importlib.util
from typing import TYPE_CHECKING, Any

from edgespec._version import __version__

if TYPE_CHECKING:
    from edgespec.core.errors import EdgespecError as EdgespecError
    from edgespec.core.guide import Guide as Guide
    from edgespec.core.params import SamplingParams as SamplingParams
    from edgespec.edge.async_session import AsyncSession as AsyncSession
    from edgespec.edge.conversation import Conversation as Conversation
    from edgespec.edge.link_options import LinkOptions as LinkOptions
    from edgespec.edge.memory import Memory as Memory
    from edgespec.edge.picture import Picture as Picture
    from edgespec.edge.session import Session as Session
    from edgespec.edge.step import Statistics as Statistics
    from edgespec.edge.step import Step as Step
    from edgespec.edge.trace import Event as Event
    from edgespec.edge.trace import trace_object as trace_object
    from edgespec.engines.bundled import bundled_engine as bundled_engine
    from edgespec.engines.compiling import compile as compile
    from edgespec.engines.draft_engine import load_draft as load_draft
    from edgespec.server.server import serve as serve
    from edgespec.server.settings import ServerSecurity as ServerSecurity

if importlib.util.find_spec("edgespec._native") is None:
    raise ImportError(
        f"{__path__[0]} is edgespec's source code, without its native module: run `pip install .` and start Python in "
        "another folder, or work on the sources with `pip install -e .`"
    )

_MODULES = {
    "core.errors": ("EdgespecError",),
    "core.guide": ("Guide",),
    "core.params": ("SamplingParams",),
    "edge.async_session": ("AsyncSession",),
    "edge.conversation": ("Conversation",),
    "edge.link_options": ("LinkOptions",),
    "edge.picture": ("Picture",),
    "edge.memory": ("Memory",),
    "edge.session": ("Session",),
    "edge.step": ("Statistics", "Step"),
    "edge.trace": ("Event", "trace_object"),
    "engines.bundled": ("bundled_engine",),
    "engines.compiling": ("compile",),
    "engines.draft_engine": ("load_draft",),
    "server.settings": ("ServerSecurity",),
    "server.server": ("serve",),
}
_MODULE_OF = {name: f"edgespec.{module}" for module, names in _MODULES.items() for name in names}

__all__ = ["__version__", *_MODULE_OF]


def __getattr__(name: str) -> Any:
    """Import on first use, so that `import edgespec` is quick and a device never loads the server's code."""
    if name not in _MODULE_OF:
        raise AttributeError(f"module 'edgespec' has no attribute {name!r}")
    return getattr(importlib.import_module(_MODULE_OF[name]), name)
