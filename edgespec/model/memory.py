"""Memory of a device: how much is free, what weights need, and how much of it keys and values may take."""

from __future__ import annotations

import re

import torch

from edgespec.core.errors import EdgespecError
from edgespec.core.memory import available_memory_bytes
from edgespec.core.slots import SLOT_BUCKET

KV_SHARES = {"cuda": 0.75}
"""The default share of a device's available memory for keys and values, once the weights are there: a GPU holds little
else, and Llama-2-7B on 24 GB gets three whole contexts. On other devices other programs want memory too."""

OTHER_KV_SHARE = 0.2


def available_bytes(device: torch.device) -> float:
    """Memory of the device that this process may still take."""
    if device.type == "cuda":
        return float(torch.cuda.mem_get_info(device)[0])
    return available_memory_bytes()


def check_fits(needed: float, dtype: torch.dtype, device: torch.device, name: str) -> None:
    """Raises EdgespecError where weights of `needed` bytes are more than the device has left."""
    available = available_bytes(device)
    if needed > available:
        raise EdgespecError(
            f"{name} does not fit: its weights take {needed / 2**30:.2f} GiB in {str(dtype).removeprefix('torch.')}, "
            f"and the device has {available / 2**30:.2f} GiB: {(needed - available) / 2**30:.2f} GiB are missing; take "
            "a smaller --dtype, a larger device or --tensor-parallel."
        )


def kv_pages(
    kv_memory: int | str | None, page_bytes: int, device: torch.device, name: str, held_back: int = 0
) -> int:
    """Pages of key-value memory. kv_memory: bytes, "512MiB", "4GB" or a share of the device's available memory such as
    "40%"; None: the default share. held_back: bytes that forwards need beside it. Raises EdgespecError where that is
    more than there is, or too little."""
    available = max(available_bytes(device) - held_back, 0.0)
    wanted = kv_bytes(kv_memory, available, device)
    if wanted > available:
        raise EdgespecError(
            f"--kv-memory {kv_memory} is {wanted / 2**30:.2f} GiB, and the device has "
            f"{available / 2**30:.2f} GiB for it: {(wanted - available) / 2**30:.2f} GiB are missing; ask for less."
        )
    pages = int(wanted // page_bytes)
    if pages < 2:
        raise EdgespecError(
            f"a key-value memory of {wanted / 2**20:.1f} MiB is too small: {name} needs "
            f"{page_bytes / 2**20:.1f} MiB for {SLOT_BUCKET} tokens of one session, and as much beside it; "
            "raise --kv-memory."
        )
    return pages


def kv_bytes(kv_memory: int | str | None, available: float, device: torch.device) -> float:
    """What keys and values are to take of `available` bytes. kv_memory: see `kv_pages`."""
    if kv_memory is None:
        return KV_SHARES.get(device.type, OTHER_KV_SHARE) * available
    return parse_memory(kv_memory, available)


def parse_memory(text: int | str, whole: float) -> float:
    """Bytes, from a number, a number with a unit (kB, MB, GB, KiB, MiB, GiB) or a share of `whole` (40%). Raises
    EdgespecError."""
    match = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*(%|[kKMGT]i?B|B)?\s*", str(text))
    if match is None or float(match[1]) == 0 or (match[2] == "%" and float(match[1]) > 100):
        raise EdgespecError(
            f"--kv-memory must be bytes, such as 2GiB or 512MB, or a share, such as 40%, not {text!r}."
        )
    number, unit = float(match[1]), match[2] or "B"
    if unit == "%":
        return number / 100 * whole
    base = 1024 if "i" in unit else 1000
    return number * float(base ** "BKMGT".index(unit[0].upper()))
