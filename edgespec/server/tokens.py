"""The file of a server's device tokens, as digests: one a line, at most two a device.

With two, a device can move to its next token without a gap. A running server reads the file again when it changes.
Behind the day a line may say `tenant=NAME` and `latency_ms=NUMBER`.
"""

from __future__ import annotations

import datetime
import logging
import math
import os
import stat
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path

from edgespec.core.access import KnownToken, check_device_name, credential, digest, new_token
from edgespec.core.errors import EdgespecError
from edgespec.core.whole_files import locked

log = logging.getLogger("edgespec.server")

MOST_A_DEVICE = 2
MOST_BYTES = 64 << 20
HEADING = "# device, SHA-256 of its token, day it was made: kept by `edgespec token`\n"


def read_tokens(path: Path) -> list[KnownToken]:
    """A line that is no token is left out, with a warning. Raises EdgespecError where the file cannot be read, has no
    line that can be, or may be written by others than its owner."""
    try:
        with path.open(encoding="utf-8") as file:
            status = os.fstat(file.fileno())
            _check(path, status)
            lines = file.read(MOST_BYTES).splitlines()
    except FileNotFoundError:
        raise EdgespecError(
            f"there is no file {path}: make it with `edgespec token new DEVICE --tokens {path}`."
        ) from None
    except (OSError, UnicodeDecodeError) as error:
        raise EdgespecError(f"cannot read the tokens in {path} ({error}).") from None
    entries = {number: line for number, line in enumerate(lines, 1) if line and not line.startswith("#")}
    tokens = {number: _token(line) for number, line in entries.items()}
    bad = [number for number, token in tokens.items() if token is None]
    for number in bad:
        log.warning(
            "line %d of %s is not `device digest day`, and is left out: mend it, or remove it", number, path
        )
    if bad and len(bad) == len(tokens):
        raise EdgespecError(
            f"no line of {path} is `device digest day`: make it anew with `edgespec token new`."
        )
    return [token for token in tokens.values() if token is not None]


def add_token(path: Path, device: str, tenant: str | None = None, latency_ms: float | None = None) -> str:
    """Make a token for this device and add its digest; of the device's older tokens only the newest stays valid.
    tenant, latency_ms: see KnownToken; None: as the device has it."""
    check_device_name(device)
    if tenant:
        check_device_name(tenant, "tenant")
    path.parent.mkdir(parents=True, exist_ok=True)
    with _locked(path):
        tokens = read_tokens(path) if path.exists() else []
        of_device = [known for known in tokens if known.device == device]
        token = new_token()
        made = datetime.date.today().isoformat()
        known = KnownToken(device, digest(credential(token)), made)
        if of_device:
            known = replace(known, tenant=of_device[-1].tenant, latency_ms=of_device[-1].latency_ms)
        known = replace(
            known,
            tenant=known.tenant if tenant is None else tenant,
            latency_ms=known.latency_ms if latency_ms is None else latency_ms,
        )
        others = [known for known in tokens if known.device != device]
        _write(path, [*others, *of_device[1 - MOST_A_DEVICE :], known])
    return token


def revoke(path: Path, device: str) -> int:
    """Remove all tokens of this device; returns how many there were."""
    with _locked(path):
        tokens = read_tokens(path)
        left = [known for known in tokens if known.device != device]
        if len(left) < len(tokens):
            _write(path, left)
    return len(tokens) - len(left)


def _check(path: Path, status: os.stat_result) -> None:
    if stat.S_IMODE(status.st_mode) & (stat.S_IWGRP | stat.S_IWOTH):
        raise EdgespecError(
            f"others than its owner may write {path}, and so let devices in: chmod 600 {path}."
        )
    if status.st_size > MOST_BYTES:
        raise EdgespecError(f"{path} has {status.st_size} bytes, and tokens take {MOST_BYTES} at most.")


def _token(line: str) -> KnownToken | None:
    """None: the line says nothing that can be followed."""
    try:
        device, hexadecimal, made, *labels = line.split()
        known = KnownToken(check_device_name(device), bytes.fromhex(hexadecimal), made)
        for label in labels:
            name, _, value = label.partition("=")
            if name == "tenant":
                known = replace(known, tenant=check_device_name(value, "tenant"))
            elif name == "latency_ms" and 0 < float(value) < math.inf:
                known = replace(known, latency_ms=float(value))
            else:
                return None
    except (ValueError, EdgespecError):
        return None
    return known if len(known.digest) == 32 else None


def _line(known: KnownToken) -> str:
    labels = [f"tenant={known.tenant}"] if known.tenant else []
    if known.latency_ms is not None:
        labels.append(f"latency_ms={known.latency_ms:g}")
    return " ".join([known.device, known.digest.hex(), known.made, *labels]) + "\n"


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    """Only one process at a time changes the file: of two changes none is lost."""
    with ExitStack() as held:
        try:
            held.enter_context(locked(path.with_name(f".{path.name}.lock")))
        except OSError as error:
            raise EdgespecError(f"cannot lock {path} ({error}).") from None
        yield


def _write(path: Path, tokens: Iterable[KnownToken]) -> None:
    """Atomically, readable by its owner only."""
    with tempfile.NamedTemporaryFile("w", dir=path.parent, prefix=f".{path.name}-", delete=False) as file:
        file.write(HEADING + "".join(_line(known) for known in tokens))
        file.flush()
        os.fsync(file.fileno())
    os.replace(file.name, path)
