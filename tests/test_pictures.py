"""Pictures before any model sees them: the wire's section, the sizes that a server takes, and hostile files."""

from __future__ import annotations

import contextlib
import functools
import hashlib
import io
import struct
import time
import tracemalloc
import zlib
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgespec.core import picture_section
from edgespec.core.errors import EdgespecError
from edgespec.core.picture_files import PNG, decode, read_header
from edgespec.core.picture_section import SentPicture
from edgespec.core.pictures import (
    MAX_BYTES,
    MAX_PICTURES,
    PictureFormat,
    PictureSpan,
    cut_picture,
    rotary_positions,
)

Image = pytest.importorskip("PIL.Image")
SHA256 = bytes(range(32))
SPAN = PictureSpan(5, 6, 56, 84, SHA256)
QWEN = PictureFormat(placeholder=290, mark=290, before=(292,), after=(293,), cell=28, min_pixels=56 * 56)


def picture(height: int = 56, width: int = 84, seed: int = 0) -> Any:
    pixels = np.random.default_rng(seed).integers(0, 256, (height, width, 3))
    return Image.fromarray(pixels.astype(np.uint8))


def saved(image: Any, kind: str = "PNG", **options: Any) -> bytes:
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


class TestSection:
    def test_golden_bytes(self) -> None:
        section = picture_section.encode(
            [SentPicture(SPAN, "jpeg", b"abc"), SentPicture(PictureSpan(11, 1, 28, 28, SHA256), "png", b"")]
        )
        assert section == (
            SHA256 + struct.pack("<IIHHB3xII", 5, 6, 56, 84, 2, 3, 0) + b"abc" + bytes(5)
            + SHA256 + struct.pack("<IIHHB3xII", 11, 1, 28, 28, 1, 0, 0)
        )  # fmt: skip

    @given(st.lists(st.tuples(st.integers(0, 9), st.integers(1, 99), st.binary(max_size=40)), max_size=5))
    def test_what_is_written_is_read(self, entries: list[tuple[int, int, bytes]]) -> None:
        pictures, at = [], 0
        for gap, rows, file in entries:
            span = PictureSpan(at + gap, rows, rows, 7, hashlib.sha256(file).digest())
            pictures.append(SentPicture(span, "png", file))
            at = span.end
        assert picture_section.decode(picture_section.encode(pictures)) == pictures

    @given(st.binary(max_size=200))
    def test_any_bytes_are_read_or_refused(self, section: bytes) -> None:
        with contextlib.suppress(EdgespecError):
            picture_section.decode(section)

    @given(st.data())
    def test_a_changed_section_is_read_or_refused(self, data: st.DataObject) -> None:
        whole = bytearray(picture_section.encode([SentPicture(SPAN, "png", b"12345")] * 1))
        for _ in range(data.draw(st.integers(1, 4))):
            whole[data.draw(st.integers(0, len(whole) - 1))] = data.draw(st.integers(0, 255))
        with contextlib.suppress(EdgespecError):
            picture_section.decode(bytes(whole[: data.draw(st.integers(0, len(whole)))]))

    def test_what_is_refused(self) -> None:
        two = [SentPicture(SPAN, "png", b""), SentPicture(SPAN, "png", b"")]
        with pytest.raises(EdgespecError, match="overlap"):
            picture_section.decode(picture_section.encode(two))
        many = [SentPicture(PictureSpan(i, 1, 1, 1, SHA256), "png", b"") for i in range(MAX_PICTURES + 1)]
        with pytest.raises(EdgespecError, match="at most"):
            picture_section.decode(picture_section.encode(many))
        long = SHA256 + struct.pack("<IIHHB3xII", 5, 6, 56, 84, 2, 2**32 - 1, 0)
        with pytest.raises(EdgespecError, match="bytes"):
            picture_section.decode(long)


class TestFormat:
    def test_a_format_is_read_as_it_was_written(self) -> None:
        assert PictureFormat.from_json(QWEN.to_json()) == QWEN
        assert PictureFormat.from_json(b"") is None

    @pytest.mark.parametrize(
        "section", [b"[]", b"{}", b'{"placeholder":-1,"mark":0}', b"nonsense", b'{"mark":"a"}']
    )
    def test_a_format_that_says_nothing_is_refused(self, section: bytes) -> None:
        with pytest.raises(EdgespecError, match="WELCOME"):
            PictureFormat.from_json(section)

    @given(st.integers(1, 3000), st.integers(1, 3000))
    def test_every_picture_is_scaled_to_a_size_that_is_taken(self, height: int, width: int) -> None:
        if 1 / 20 < height / width < 20:
            assert QWEN.rows_of(*QWEN.size(height, width)) > 0

    def test_sizes_that_are_refused(self) -> None:
        fixed = PictureFormat(placeholder=1, mark=1, height=28, width=28, rows=4)
        assert (fixed.size(99, 11), fixed.rows_of(28, 28)) == ((28, 28), 4)
        for one, size in (
            (fixed, (28, 56)),
            (QWEN, (56, 85)),
            (QWEN, (0, 0)),
            (QWEN, (28, 28)),
            (QWEN, (2800, 2800)),
        ):
            with pytest.raises(EdgespecError, match="pixels"):
                one.rows_of(*size)


def test_rotary_positions_count_a_pictures_cells_and_go_on_behind_it() -> None:
    spans = [SPAN, PictureSpan(13, 1, 28, 28, SHA256)]
    rotary = rotary_positions(spans, np.arange(16), 28)
    assert rotary[:, :5].tolist() == [[0, 1, 2, 3, 4]] * 3
    assert rotary[:, 5:11].T.tolist() == [[5, 5, 5], [5, 5, 6], [5, 5, 7], [5, 6, 5], [5, 6, 6], [5, 6, 7]]
    assert rotary[:, 11:].tolist() == [[8, 9, 10, 11, 12]] * 3
    assert rotary_positions(spans, np.array([15, 2]), 28).tolist() == [[12, 2]] * 3


def test_a_text_may_end_around_a_picture_and_not_within_it() -> None:
    assert [cut_picture([SPAN], length) for length in (5, 6, 10, 11)] == [None, SPAN, SPAN, None]


class TestFiles:
    def test_pixels_come_back(self) -> None:
        image = picture()
        assert np.array_equal(decode(saved(image)), np.asarray(image))
        assert decode(saved(image.convert("L"), "JPEG")).shape == (56, 84, 3)
        assert read_header(saved(image, "JPEG")).format == "jpeg"

    @pytest.mark.parametrize("number", range(30))
    def test_a_hostile_file_is_refused_in_20_ms_and_2_mib(
        self, number: int, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Pillow's own memory is not traced, so files that reach it are counted: one, a cut JPEG of 56 × 84 pixels."""
        (name, file), opened = hostile()[number], []
        monkeypatch.setattr(Image, "open", lambda *of, **how: opened.append(name) or IMAGE_OPEN(*of, **how))
        # Of CPU time, the least of a few: what the work takes on a busy machine too.
        assert min(refusal_s(file) for _ in range(3)) <= 0.020
        tracemalloc.start()
        refusal_s(file)
        peak_bytes = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert peak_bytes <= 2 << 20
        assert set(opened) <= {"JPEG cut at 0.2"}


def refusal_s(file: bytes) -> float:
    """Seconds of CPU time that it takes to refuse the file."""
    start_s = time.process_time()
    with pytest.raises(EdgespecError, match=r"picture|PNG|JPEG"):
        decode(file)
    return time.process_time() - start_s


IMAGE_OPEN = Image.open


@functools.cache
def hostile() -> list[tuple[str, bytes]]:
    """Files that cost much, or mean something else than they say."""
    png, jpeg = saved(picture()), saved(picture(), "JPEG")
    progressive = saved(picture(), "JPEG", progressive=True)
    scans = [at for at in range(len(progressive) - 1) if progressive[at : at + 2] == b"\xff\xda"]
    start = jpeg.index(b"\xff\xda")
    frame = jpeg.index(b"\xff\xc0")
    sized = {name: png[:16] + struct.pack(">II", *size) + png[24:] for name, size in SIZES.items()}
    cut = {f"cut at {share}": png[: int(len(png) * share)] for share in (0.1, 0.5, 0.99)}
    cut |= {f"JPEG cut at {share}": jpeg[: int(len(jpeg) * share)] for share in (0.02, 0.2)}
    kinds = {kind: saved(picture(), kind) for kind in ("GIF", "BMP", "TIFF", "WEBP", "PPM")}
    files = {
        **sized, **cut, **kinds,
        "a bomb": saved(Image.new("L", (12000, 12000)), optimize=True),
        "nothing": b"",
        "a signature": PNG,
        "zeros": bytes(MAX_BYTES),
        "too many bytes": jpeg + bytes(MAX_BYTES),
        "progressive": progressive,
        "a thousand scans": progressive[:-2] + progressive[scans[-1] : -2] * 1000 + b"\xff\xd9",
        "sequential scans": jpeg[:-2] + jpeg[start:-2] * 20 + b"\xff\xd9",
        "many segments": jpeg[:2] + b"\xff\xe0\x00\x02" * 100_000 + jpeg[2:],
        "many chunks": png[:33] + chunk(b"gAMA", b"") * 20_000 + png[33:],
        "two frames": jpeg[:start] + jpeg[frame:],
        "an arithmetic frame": jpeg.replace(b"\xff\xc0", b"\xff\xc9"),
        "a text that grows": png[:33] + chunk(b"zTXt", b"a\0\0" + zlib.compress(bytes(10**7))) + png[33:],
        "a profile": png[:33] + chunk(b"iCCP", b"a\0\0" + zlib.compress(bytes(10**6))) + png[33:],
        "no end": png[:-12],
        "a huge JPEG": jpeg[: frame + 5] + b"\xff\xff\xff\xff" + jpeg[frame + 9 :],
        "a JPEG without scans": jpeg[:start] + b"\xff\xd9",
    }  # fmt: skip
    return list(files.items())


SIZES = {"wide": (2**31 - 1, 1), "over a megapixel": (1001, 1000), "no rows": (5, 0)}


def chunk(kind: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))
