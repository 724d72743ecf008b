"""Which code a kind of results measures, and a hash of it: results that were made of other code are named as older."""

from __future__ import annotations

import hashlib
from functools import lru_cache
from pathlib import Path

ROOT = Path(__file__).parent.parent
SYSTEM = tuple(
    f"edgespec/{part}"
    for part in ("core", "drafting", "verifying", "edge", "server", "engines", "model", "sim")
)
MEASURED = {
    "wire": ("csrc/wire", "csrc/net", "edgespec/core"),
    "link": ("csrc/wire", "csrc/net", "edgespec/core"),
    "kernels": ("kernels", "csrc/sampling", "csrc/noise", "csrc/decoder", "csrc/simd", "csrc/threads"),
    "api": (*SYSTEM, "edgespec/api"),
    "fleet": (*SYSTEM, "edgespec/fleet", "csrc"),
    "acceptance": ("edgespec/core", "edgespec/drafting", "edgespec/verifying", "edgespec/engines"),
    "decoders": ("edgespec/core", "edgespec/model", "csrc/decoder", "csrc/simd", "csrc/threads"),
    "agreement": ("edgespec/train", "edgespec/model", "edgespec/core"),
    "criterion": ("edgespec/core", "edgespec/drafting", "edgespec/verifying", "edgespec/sim"),
    "neighbours": ("edgespec/core", "edgespec/drafting", "edgespec/verifying", "edgespec/sim"),
    "hint_worth": ("edgespec/core", "edgespec/drafting", "edgespec/verifying", "edgespec/sim"),
}
"""Folders; other kinds measure the whole system."""

UNMEASURED = {"build", "vllm", "llamacpp"}
"""Folders among them that no figure depends on: edgespec's own engine is what is measured."""

SOURCES = {".py", ".cpp", ".hpp", ".h"}


@lru_cache
def code_hash(kind: str) -> str:
    """16 hex digits over the names and contents of the sources."""
    digest = hashlib.sha256()
    for folder in MEASURED.get(kind, (*SYSTEM, "csrc")):
        for file in sorted((ROOT / folder).rglob("*")):
            name = file.relative_to(ROOT)
            if file.suffix in SOURCES and not UNMEASURED.intersection(name.parts):
                digest.update(f"{name}\n".encode() + file.read_bytes())
    return digest.hexdigest()[:16]
