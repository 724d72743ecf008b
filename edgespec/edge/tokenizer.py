"""The target's own tokenizer on the device: the files at hand, those kept from earlier, or fetched from the server.

A prompt must be encoded as the target's tokenizer does it, and a mode that does not draft needs no other model file.
"""

from __future__ import annotations

import contextlib
import json
import secrets
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from edgespec import _native
from edgespec.core import tokenizer_archive as archives
from edgespec.core.address import Address
from edgespec.core.cache_folder import cache_folder
from edgespec.core.errors import EdgespecError
from edgespec.core.tokenizer import Tokenizer
from edgespec.core.vocabulary_map import vocabulary_map
from edgespec.core.where import Question
from edgespec.core.whole_files import whole_file
from edgespec.edge.directory import Directory
from edgespec.edge.handshake import explain, reach
from edgespec.edge.link_options import LinkOptions
from edgespec.engines.draft_engine import DraftEngine
from edgespec.engines.translated_engine import TranslatedEngine


class TargetTexts(NamedTuple):
    """How a target wants its texts: its tokenizer, and the sampling parameters that its makers recommend."""

    tokenizer: Tokenizer
    sampling: Mapping[str, Any]


def ask_target(
    servers: Sequence[Address] | Directory, options: LinkOptions, own: Tokenizer | None = None
) -> TargetTexts:
    """What the first of these servers that answers says of its target. own: the draft's tokenizer, which is taken where
    its files are the same. Raises EdgespecError."""
    link, welcome, _ = reach(servers, Question(secrets.token_hex(16)), archives.NO_HASH, options)
    try:
        tokenizer = target_tokenizer(link, welcome, own, options.timeout_s)
        return TargetTexts(tokenizer, recommended_sampling(welcome))
    finally:
        link.close()


def matched(
    link: _native.ResilientConnection,
    welcome: _native.Welcome,
    tokenizer: Tokenizer | None,
    engine: DraftEngine | None,
    timeout_s: float,
) -> tuple[Tokenizer, DraftEngine | None]:
    """The target's tokenizer, and the draft as one that speaks its tokens. tokenizer: the caller's own. Raises
    EdgespecError."""
    differs = engine is not None and engine.vocabulary_hash != welcome.vocabulary_hash
    needed = engine is not None and (tokenizer is None or differs)
    own = Tokenizer.load(engine.tokenizer_path) if engine is not None and needed else None
    found = tokenizer or target_tokenizer(link, welcome, own, timeout_s)
    if engine is None or own is None or not differs:
        return found, engine
    return found, _translated(engine, own, found, welcome)


def target_tokenizer(
    link: _native.ResilientConnection, welcome: _native.Welcome, own: Tokenizer | None, timeout_s: float
) -> Tokenizer:
    """The tokenizer that `welcome` names, over its connection if need be. timeout_s: without any progress. Raises
    EdgespecError."""
    wanted = welcome.tokenizer_hash
    if wanted == archives.NO_HASH:
        if own is None:
            raise EdgespecError(
                "this server offers no tokenizer: give the target's own, or a draft engine of its family."
            )
        return own
    if own is not None and _is_kept(own.path and own.path.parent, wanted):
        return own
    folder = cache_folder("tokenizers") / wanted.hex()
    if not _is_kept(folder, wanted):
        files = archives.unpack(_download(link, wanted, timeout_s), wanted)
        folder = _keep(files, folder)
    ends = welcome.end_tokens.tolist()
    return Tokenizer.load(folder, end_tokens=ends or None)


def _translated(
    engine: DraftEngine, own: Tokenizer, tokenizer: Tokenizer, welcome: _native.Welcome
) -> DraftEngine:
    """The draft as one that reads and writes the target's tokens. own: the draft's tokenizer; tokenizer: the target's.
    Raises EdgespecError where they share too little."""
    if tokenizer.vocabulary_hash != welcome.vocabulary_hash or tokenizer.path is None:
        raise EdgespecError(
            "the draft's tokenizer is not the target's, and the server does not offer its own: compile a draft that "
            "shares the target's tokenizer."
        )
    size = welcome.vocabulary_size
    return TranslatedEngine(
        engine, vocabulary_map(tokenizer, own, size, engine.vocabulary_size), size, tokenizer.path
    )


def recommended_sampling(welcome: _native.Welcome) -> Mapping[str, Any]:
    """Of the target's makers. Raises EdgespecError."""
    try:
        return dict(json.loads(welcome.sampling or b"{}"))
    except (ValueError, TypeError, AttributeError) as error:
        raise EdgespecError(f"the sampling that the server recommends cannot be read ({error}).") from None


def _is_kept(folder: Path | None, wanted: bytes) -> bool:
    with contextlib.suppress(OSError):
        return (
            folder is not None and folder.is_dir() and archives.hash_of(archives.read_files(folder)) == wanted
        )
    return False


def _keep(files: dict[str, bytes], folder: Path) -> Path:
    """Write the files for next time. Where that cannot be done they go into a folder for this process alone."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError:
        folder = Path(tempfile.mkdtemp(prefix="edgespec-tokenizer-"))
    for name, data in files.items():
        with whole_file(folder / name) as stream:
            stream.write(data)
    return folder


def _download(link: _native.ResilientConnection, wanted: bytes, timeout_s: float) -> bytes:
    """The archive, part by part: the next is asked for when one has come. Raises EdgespecError."""
    content = bytearray()
    while True:
        part = _part(link, wanted, len(content), timeout_s)
        if part.first_byte != len(content) or not part.content:
            raise EdgespecError("the server sent another part of its tokenizer than it was asked for.")
        if part.total_bytes > archives.MAX_ARCHIVE_BYTES:
            raise EdgespecError(
                f"the server's tokenizer has {part.total_bytes} bytes, over the {archives.MAX_ARCHIVE_BYTES} that "
                "are taken: put the target's tokenizer.json beside the draft."
            )
        content += part.content
        if len(content) >= part.total_bytes:
            return bytes(content)


def _part(
    link: _native.ResilientConnection, wanted: bytes, first_byte: int, timeout_s: float
) -> _native.File:
    link.ask(_native.encode_fetch(tokenizer_hash=wanted, first_byte=first_byte))
    end_s = time.monotonic() + timeout_s
    while (left_s := end_s - time.monotonic()) > 0:
        try:
            arrival = link.receive(left_s)
        except ConnectionError as error:
            raise EdgespecError(
                f"the link was lost while the tokenizer was fetched ({error}): try again."
            ) from None
        if isinstance(arrival, _native.File):
            return arrival
        if isinstance(arrival, _native.Error):
            raise EdgespecError(explain(arrival, Address(*link.address)))
        if isinstance(arrival, _native.Lost):
            raise EdgespecError(
                f"the link was lost while the tokenizer was fetched ({arrival.reason}): try again."
            )
    raise EdgespecError(f"the server sent no tokenizer within {timeout_s:g} s: try again.")
