"""Where servers listen."""

from __future__ import annotations

DEFAULT_PORT = 7433
