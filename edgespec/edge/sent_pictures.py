"""Which pictures a server has from this process, so that a picture's file goes up once."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import replace

from edgespec.core import picture_section
from edgespec.core.address import Address
from edgespec.core.picture_section import SentPicture

REMEMBERED = 4096


class SentPictures:
    """All sessions of the process share one: `SENT`."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._sent: OrderedDict[tuple[Address, bytes], None] = OrderedDict()

    def section(self, server: Address, pictures: Sequence[SentPicture], all_files: bool = False) -> bytes:
        """The section that brings these pictures to the server, without the files that it has. all_files: with every
        file, since it has forgotten them."""
        with self._lock:
            going = [
                picture
                if all_files or (server, picture.span.sha256) not in self._sent
                else replace(picture, file=b"")
                for picture in pictures
            ]
            for picture in pictures:
                self._sent[server, picture.span.sha256] = None
                self._sent.move_to_end((server, picture.span.sha256))
            while len(self._sent) > REMEMBERED:
                self._sent.popitem(last=False)
        return picture_section.encode(going)


SENT = SentPictures()
