"""A key that the device's memory is encrypted with: AES-256-GCM of the `cryptography` package, with a key in a file.

The key is random, so it needs no stretching. Whoever changes the files makes texts slower at most: what does not open
with the key is not used.
"""

from __future__ import annotations

import hashlib
import os
import secrets
import stat
from pathlib import Path

from edgespec.core.errors import EdgespecError
from edgespec.core.whole_files import private_file

KEY_BYTES, NONCE_BYTES, TAG_BYTES = 32, 12, 16
OVERHEAD_BYTES = NONCE_BYTES + TAG_BYTES


class NotSealed(ValueError):
    """The bytes were not sealed with this key, or were changed since."""


class MemoryKey:
    """id: tells keys apart, and does not tell the key. Raises EdgespecError where the package is missing."""

    def __init__(self, key: bytes) -> None:
        try:
            from cryptography.hazmat.primitives.ciphers.aead import AESGCM
        except ModuleNotFoundError as error:
            raise EdgespecError(
                f"an encrypted memory needs {error.name}: pip install 'edgespec[encrypted]'."
            ) from None
        self.id = hashlib.sha256(b"edgespec memory key" + key).digest()
        self._cipher = AESGCM(key)

    def seal(self, data: bytes, place: bytes) -> bytes:
        """Encrypted, for this place only; longer by OVERHEAD_BYTES."""
        nonce = secrets.token_bytes(NONCE_BYTES)
        encrypted: bytes = self._cipher.encrypt(nonce, data, place)
        return nonce + encrypted

    def open(self, sealed: bytes, place: bytes) -> bytes:
        """Raises NotSealed."""
        from cryptography.exceptions import InvalidTag

        try:
            data: bytes = self._cipher.decrypt(sealed[:NONCE_BYTES], sealed[NONCE_BYTES:], place)
        except (InvalidTag, ValueError):
            raise NotSealed from None
        return data


def make_key(file: Path) -> None:
    """Write a new key, readable by its owner only. Raises EdgespecError where there is a file already."""
    if file.exists():
        raise EdgespecError(f"there is a file {file} already: use it, or give another name.")
    try:
        with private_file(file) as stream:
            stream.write(secrets.token_hex(KEY_BYTES).encode() + b"\n")
    except OSError as error:
        raise EdgespecError(f"cannot write the key to {file} ({error}).") from None


def read_key(file: Path) -> MemoryKey:
    """Raises EdgespecError for a file that holds no key, or that others may read."""
    try:
        with file.open("rb") as stream:
            mode = os.fstat(stream.fileno()).st_mode
            text = stream.read(4 * KEY_BYTES)
    except OSError as error:
        raise EdgespecError(
            f"cannot read the memory's key in {file} ({error.strerror}): make one with `edgespec memory key {file}`."
        ) from None
    if stat.S_IMODE(mode) & (stat.S_IRWXG | stat.S_IRWXO):
        raise EdgespecError(f"others than its owner may use the memory's key in {file}: chmod 600 {file}.")
    try:
        key = bytes.fromhex(text.decode())
    except ValueError:
        key = b""
    if len(key) != KEY_BYTES:
        raise EdgespecError(
            f"{file} holds no key of a memory, which is 64 hexadecimal digits: make one with `edgespec memory key`."
        )
    return MemoryKey(key)
