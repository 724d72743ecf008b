"""The file of a server's device tokens, as digests: one a line, at most two a device.

With two, a device can move to its next token without a gap. A running server reads the file again on SIGHUP.
"""

from __future__ import annotations

import datetime
import os
import tempfile
from collections.abc import Iterable
from pathlib import Path

from edgespec.core.access import KnownToken, check_device_name, credential, digest, new_token
from edgespec.core.errors import EdgespecError

MOST_A_DEVICE = 2
HEADING = "# device, SHA-256 of its token, day it was made: kept by `edgespec token`\n"


def read_tokens(path: Path) -> list[KnownToken]:
    """Raises EdgespecError where the file cannot be read or is not a token file."""
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except FileNotFoundError:
        raise EdgespecError(
            f"there is no file {path}: make it with `edgespec token new DEVICE --tokens {path}`."
        ) from None
    except (OSError, UnicodeDecodeError) as error:
        raise EdgespecError(f"cannot read the tokens in {path} ({error}).") from None
    return [
        _token(path, number, line)
        for number, line in enumerate(lines, 1)
        if line and not line.startswith("#")
    ]


def add_token(path: Path, device: str) -> str:
    """Make a token for this device and add its digest; of the device's older tokens only the newest stays valid."""
    check_device_name(device)
    tokens = read_tokens(path) if path.exists() else []
    token = new_token()
    made = datetime.date.today().isoformat()
    older = [known for known in tokens if known.device == device][1 - MOST_A_DEVICE :]
    others = [known for known in tokens if known.device != device]
    _write(path, [*others, *older, KnownToken(device, digest(credential(token)), made)])
    return token


def revoke(path: Path, device: str) -> int:
    """Remove all tokens of this device; returns how many there were."""
    tokens = read_tokens(path)
    left = [known for known in tokens if known.device != device]
    if len(left) < len(tokens):
        _write(path, left)
    return len(tokens) - len(left)


def _token(path: Path, number: int, line: str) -> KnownToken:
    try:
        device, hexadecimal, made = line.split()
        known = KnownToken(check_device_name(device), bytes.fromhex(hexadecimal), made)
    except (ValueError, EdgespecError):
        known = None
    if known is None or len(known.digest) != 32:
        raise EdgespecError(f"line {number} of {path} is not `device digest day`: mend it, or remove it.")
    return known


def _write(path: Path, tokens: Iterable[KnownToken]) -> None:
    """Atomically, readable by its owner only."""
    text = HEADING + "".join(f"{known.device} {known.digest.hex()} {known.made}\n" for known in tokens)
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.NamedTemporaryFile("w", dir=path.parent, prefix=f".{path.name}-", delete=False) as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    os.replace(file.name, path)
