"""A file of texts as token ids, to which each text is appended with a checksum. Several processes may use it.

A crash costs the text that was being written: what does not add up is cut off. A file that is not ours stays as it is.
The file is private to its user, and is written anew without its oldest texts when it has grown too long. With a key,
each text is encrypted by itself.
"""

from __future__ import annotations

import hashlib
import itertools
import os
import struct
import zlib
from bisect import bisect_left
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from edgespec.core.whole_files import locked, private_file, whole_file
from edgespec.edge.memory_key import OVERHEAD_BYTES, MemoryKey, NotSealed

MAGIC, SEALED_MAGIC = b"edgespec texts 1", b"edgespec sealed1"
KEY_BYTES = 32
RECORD = struct.Struct("<II")
"""Of a text: its number of words, and the CRC-32 of them, which follow: token ids as int32, little-endian. Sealed ones
have a nonce before them and a tag behind."""

SEALED_WORDS = OVERHEAD_BYTES // 4

LONGEST_TEXT = 1 << 20
SLACK = 1.5
"""The file may grow to this multiple of its bound before it is written anew."""


class ForeignFile(Exception):
    """The file holds something else."""


def count_texts(file: Path) -> tuple[int, int]:
    """Texts and tokens in a file, whoever's they are. Raises ForeignFile, OSError."""
    with file.open("rb") as stream:
        magic = stream.read(len(MAGIC))
        if magic not in (MAGIC, SEALED_MAGIC):
            raise ForeignFile(f"{file} holds no texts")
        around = SEALED_WORDS if magic == SEALED_MAGIC else 0
        stream.seek(len(MAGIC) + KEY_BYTES)
        texts = tokens = 0
        while len(head := stream.read(RECORD.size)) == RECORD.size:
            count, _ = RECORD.unpack(head)
            stream.seek(4 * count, os.SEEK_CUR)
            texts, tokens = texts + 1, tokens + max(0, count - around)
        return texts, tokens


class TextLog:
    """key: of the target and tokenizer that the ids belong to. vocabulary_size: ids from it up are not believed.
    most_tokens: that are kept. seal: what encrypts them; None: nothing does."""

    def __init__(
        self, file: Path, key: bytes, vocabulary_size: int, most_tokens: int, seal: MemoryKey | None = None
    ) -> None:
        self._file = file
        self._seal = seal
        self._header = MAGIC + key if seal is None else SEALED_MAGIC + hashlib.sha256(key + seal.id).digest()
        self._vocabulary_size = vocabulary_size
        self._most_tokens = most_tokens
        self._sound = (0, 0)
        """The file's inode, and the bytes of it whose records' sizes add up."""
        self._damaged = False

    def read(self) -> NDArray[np.int32]:
        """The newest texts, oldest first, int32 [N]: before each stand two ids of -1.

        Raises ForeignFile, and OSError where the file cannot be read.
        """
        records, starts = self._newest_records()
        words = np.frombuffer(records, dtype="<i4").astype(np.int32)
        heads = np.array(starts, dtype=np.int64) // 4
        words[heads] = words[heads + 1] = -1
        if self._seal is not None:
            words = self._opened(self._seal, records, [*starts, len(records)])
        words[words >= self._vocabulary_size] = -1
        return words

    def append(self, tokens: Sequence[int]) -> None:
        """Raises ForeignFile, and OSError where the file cannot be written."""
        text = np.array(tokens[-LONGEST_TEXT:], dtype="<i4").tobytes()
        if self._seal is not None:
            text = self._seal.seal(text, self._header)
        record = RECORD.pack(len(text) // 4, zlib.crc32(text)) + text
        with locked(self._file.with_suffix(".lock")):
            sound = self._sound_bytes()
            if self._damaged or sound + len(record) > self._most_bytes:
                return self._rewrite(self._newest_records()[0] + record)
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
                    if count > LONGEST_TEXT + SEALED_WORDS or end + RECORD.size + 4 * count > status.st_size:
                        break
                    end += RECORD.size + 4 * count
                    stream.seek(end)
                return end
        except FileNotFoundError:
            return 0

    def _check_header(self, header: bytes) -> None:
        if self._header.startswith(header):
            return
        magic = header[: len(MAGIC)]
        if magic == SEALED_MAGIC:
            is_sealed = "is encrypted" if self._seal is None else "is encrypted with another key, or damaged"
            raise ForeignFile(f"{self._file} {is_sealed}")
        if magic == MAGIC and self._seal is not None:
            raise ForeignFile(f"{self._file} is not encrypted, and a key was given")
        raise ForeignFile(f"{self._file} holds no texts of this target, or is damaged")

    def _opened(self, seal: MemoryKey, records: bytes, bounds: Sequence[int]) -> NDArray[np.int32]:
        """The texts of sealed records; what was changed since is left out."""
        texts = [b""]
        for start, end in itertools.pairwise(bounds):
            try:
                texts.append(seal.open(records[start + RECORD.size : end], self._header))
            except NotSealed:
                self._damaged = True
        return np.frombuffer((b"\xff" * 8).join(texts), dtype="<i4").astype(np.int32)

    def _newest_records(self) -> tuple[bytes, list[int]]:
        """As far as they add up, and no more tokens than are kept; and where in them each begins."""
        try:
            with self._file.open("rb") as stream:
                data = stream.read(self._most_bytes + 1)
        except FileNotFoundError:
            return b"", []
        self._check_header(data[: len(self._header)])
        starts, end = self._records(data, len(self._header))
        self._damaged = end != len(data)
        starts = starts[bisect_left(starts, end - 4 * self._most_tokens) :]
        first = starts[0] if starts else end
        return data[first:end], [start - first for start in starts]

    def _records(self, data: bytes, start: int) -> tuple[list[int], int]:
        """Where the records begin that add up, and where they end."""
        starts = []
        while start + RECORD.size <= len(data):
            count, checksum = RECORD.unpack_from(data, start)
            end = start + RECORD.size + 4 * count
            if (
                count > LONGEST_TEXT + SEALED_WORDS
                or end > len(data)
                or zlib.crc32(data[start + RECORD.size : end]) != checksum
            ):
                break
            starts.append(start)
            start = end
        return starts, start

    def _rewrite(self, records: bytes) -> None:
        with whole_file(self._file, private=True) as stream:
            stream.write(self._header + records)
        self._damaged = False
