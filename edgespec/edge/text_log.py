"""A file of texts as token ids, to which each text is appended with a checksum. Several processes may use it.

A crash costs the text that was being written: what does not add up is cut off. A file that is not ours stays as it is.
The file is private to its user, and is written anew without its oldest texts when it has grown too long.
"""

from __future__ import annotations

import os
import struct
import zlib
from bisect import bisect_left
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from edgespec.core.whole_files import locked, private_file, whole_file

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

    def read(self) -> NDArray[np.int32]:
        """The newest texts, oldest first, int32 [N]: before each stand two ids of -1.

        Raises ForeignFile, and OSError where the file cannot be read.
        """
        records, starts = self._newest_records()
        words = np.frombuffer(records, dtype="<i4").astype(np.int32)
        heads = np.array(starts, dtype=np.int64) // 4
        words[heads] = words[heads + 1] = -1
        words[words >= self._vocabulary_size] = -1
        return words

    def append(self, tokens: Sequence[int]) -> None:
        """Raises ForeignFile, and OSError where the file cannot be written."""
        text = np.array(tokens[-LONGEST_TEXT:], dtype="<i4").tobytes()
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
                count > LONGEST_TEXT
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
