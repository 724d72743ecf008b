"""A file of texts as token ids, to which each text is appended with a checksum. Several processes may use it.

A crash costs the text that was being written: what does not add up is cut off. A file that is not ours stays as it is.
The file is private to its user, and is written anew without its oldest texts when it has grown too long.
"""

from __future__ import annotations

import fcntl
import os
import struct
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from edgespec.core.whole_files import private_file

MAGIC = b"edgespec texts 1"
KEY_BYTES = 32
RECORD = struct.Struct("<II")
"""Of a text: its number of tokens, and the CRC-32 of them as int32, little-endian, which follow."""

LONGEST_TEXT = 1 << 20
SLACK = 1.5
"""The file may grow to this multiple of its bound before it is written anew."""


class ForeignFile(Exception):
    """The file holds something else."""


def count_texts(file: Path) -> tuple[int, int]:
    """Texts and tokens in a file, whoever's they are. Raises ForeignFile, OSError."""
    with file.open("rb") as stream:
        if stream.read(len(MAGIC)) != MAGIC:
            raise ForeignFile(f"{file} holds no texts")
        stream.seek(len(MAGIC) + KEY_BYTES)
        texts = tokens = 0
        while len(head := stream.read(RECORD.size)) == RECORD.size:
            count, _ = RECORD.unpack(head)
            stream.seek(4 * count, os.SEEK_CUR)
            texts, tokens = texts + 1, tokens + count
        return texts, tokens


class TextLog:
    """key: of the target and tokenizer that the ids belong to. vocabulary_size: ids from it up are not believed.
    most_tokens: that are kept."""

    def __init__(self, file: Path, key: bytes, vocabulary_size: int, most_tokens: int) -> None:
        self._file = file
        self._header = MAGIC + key
        self._vocabulary_size = vocabulary_size
        self._most_tokens = most_tokens
        self._sound = (0, 0)
        """The file's inode, and the bytes of it whose records' sizes add up."""
        self._damaged = False

    def read(self) -> list[NDArray[np.int32]]:
        """The newest texts, oldest first. Raises ForeignFile, and OSError where the file cannot be read."""
        try:
            with self._file.open("rb") as stream:
                data = stream.read(self._most_bytes + 1)
        except FileNotFoundError:
            return []
        return self._newest(self._texts(data))

    def append(self, tokens: Sequence[int]) -> None:
        """Raises ForeignFile, and OSError where the file cannot be written."""
        text = np.array(tokens[-LONGEST_TEXT:], dtype="<i4").tobytes()
        record = RECORD.pack(len(text) // 4, zlib.crc32(text)) + text
        with self._locked():
            sound = self._sound_bytes()
            if self._damaged or sound + len(record) > self._most_bytes:
                return self._rewrite([*self.read(), np.array(tokens, dtype=np.int32)])
            with private_file(self._file, append=True) as stream:
                if sound == 0:
                    record = self._header + record
                stream.truncate(sound)
                stream.write(record)
                self._sound = os.fstat(stream.fileno()).st_ino, sound + len(record)

    @property
    def _most_bytes(self) -> int:
        return int(SLACK * 4 * self._most_tokens) + len(self._header) + RECORD.size

    def _sound_bytes(self) -> int:
        """Bytes of the file up to where its records add up, by their sizes; others may have appended meanwhile."""
        try:
            with self._file.open("rb") as stream:
                status = os.fstat(stream.fileno())
                header = stream.read(len(self._header))
                self._check_header(header)
                if len(header) < len(self._header):
                    return 0
                inode, known = self._sound
                end = known if inode == status.st_ino and known <= status.st_size else len(header)
                stream.seek(end)
                while len(head := stream.read(RECORD.size)) == RECORD.size:
                    count, _ = RECORD.unpack(head)
                    if count > LONGEST_TEXT or end + RECORD.size + 4 * count > status.st_size:
                        break
                    end += RECORD.size + 4 * count
                    stream.seek(end)
                return end
        except FileNotFoundError:
            return 0

    def _check_header(self, header: bytes) -> None:
        if not self._header.startswith(header):
            raise ForeignFile(f"{self._file} holds no texts of this target, or is damaged")

    def _texts(self, data: bytes) -> Iterator[NDArray[np.int32]]:
        """As far as they add up."""
        self._check_header(data[: len(self._header)])
        end = len(self._header)
        self._damaged = len(data) > end
        while end + RECORD.size <= len(data):
            count, checksum = RECORD.unpack_from(data, end)
            start, end = end + RECORD.size, end + RECORD.size + 4 * count
            if count > LONGEST_TEXT or end > len(data) or zlib.crc32(data[start:end]) != checksum:
                return
            text = np.frombuffer(data, dtype="<i4", count=count, offset=start).astype(np.int32, copy=False)
            if count and text.min() >= 0 and text.max() < self._vocabulary_size:
                yield text
            self._damaged = end < len(data)

    def _newest(self, texts: Iterator[NDArray[np.int32]]) -> list[NDArray[np.int32]]:
        kept, room = list(texts), self._most_tokens
        for i in range(len(kept) - 1, -1, -1):
            room -= len(kept[i]) + 1
            if room < 0:
                return kept[i + 1 :]
        return kept

    def _rewrite(self, texts: Sequence[NDArray[np.int32]]) -> None:
        unfinished = self._file.with_name(f"{self._file.name}.{os.getpid()}.unfinished")
        try:
            with private_file(unfinished) as stream:
                stream.write(self._header)
                for text in self._newest(iter(texts)):
                    content = text.astype("<i4").tobytes()
                    stream.write(RECORD.pack(len(text), zlib.crc32(content)) + content)
            unfinished.replace(self._file)
            self._damaged = False
        finally:
            unfinished.unlink(missing_ok=True)

    @contextmanager
    def _locked(self) -> Iterator[None]:
        with private_file(self._file.with_suffix(".lock")) as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield
