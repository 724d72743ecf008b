"""A bad network between two network namespaces of this machine: real TCP, whose packets this process carries or loses.

Each end is a process in a namespace of its own with a TUN device; the packets come here and go to the other end after
half a round trip, or not at all. Needs root on Linux (`/dev/net/tun`). Nothing outside the two namespaces is touched.
"""

from __future__ import annotations

import contextlib
import ctypes
import fcntl
import heapq
import multiprocessing
import os
import random
import select
import socket
import struct
import subprocess
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from multiprocessing.connection import Connection

from edgespec.core.errors import EdgespecError

CLONE_NEWNET = 0x40000000
TUNSETIFF, IFF_TUN, IFF_NO_PI = 0x400454CA, 0x0001, 0x1000
HOSTS = ("10.77.0.1", "10.77.0.2")
DEVICE = "lossy0"
MOST_BYTES = 2048

Role = Callable[[Connection], None]


@dataclass
class Weather:
    """What the link is like. loss: of packets, each way by itself; burst: how many are lost in a row."""

    rtt_ms: float = 40.0
    loss: float = 0.0
    burst: int = 1
    outage: bool = False


class LossyLink:
    """Runs two functions, each in a process with a network of its own, and carries the packets between them.

    Both are reached under HOSTS, and each gets a pipe to this process. `weather` holds from the next packet on. A
    context manager; leaving it ends both processes.
    """

    def __init__(self, near: Role, far: Role) -> None:
        self.weather = Weather()
        self._random = random.Random(0)
        self._to_lose = [0, 0]
        self._ending = threading.Event()
        self._carrier = threading.Thread(target=self._carry, daemon=True)
        ends = [_start(host, role) for host, role in zip(HOSTS, (near, far), strict=True)]
        self._processes, self.pipes, self._devices = (list(one) for one in zip(*ends, strict=True))

    def __enter__(self) -> LossyLink:
        self._carrier.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._ending.set()
        self._carrier.join()
        for process, device in zip(self._processes, self._devices, strict=True):
            process.kill()
            process.join()
            os.close(device)

    def _carry(self) -> None:
        under_way: list[tuple[float, int, int, bytes]] = []
        count = 0
        while not self._ending.is_set():
            rest_s = under_way[0][0] - time.monotonic() if under_way else 0.05
            readable, _, _ = select.select(self._devices, [], [], max(0.0, min(rest_s, 0.05)))
            for device in readable:
                end = self._devices.index(device)
                packet = os.read(device, MOST_BYTES)
                if not self._lost(end):
                    count += 1
                    due_s = time.monotonic() + self.weather.rtt_ms / 2e3
                    heapq.heappush(under_way, (due_s, count, 1 - end, packet))
            while under_way and under_way[0][0] <= time.monotonic():
                _, _, end, packet = heapq.heappop(under_way)
                with contextlib.suppress(OSError):
                    os.write(self._devices[end], packet)

    def _lost(self, end: int) -> bool:
        weather = self.weather
        if self._to_lose[end] == 0 and self._random.random() < weather.loss / weather.burst:
            self._to_lose[end] = weather.burst
        self._to_lose[end] = max(0, (lost := self._to_lose[end]) - 1)
        return weather.outage or lost > 0


def _start(host: str, role: Role) -> tuple[multiprocessing.context.ForkProcess, Connection, int]:
    """The process of one end, the pipe to it, and its device."""
    context = multiprocessing.get_context("fork")
    ours, theirs = context.Pipe()
    mine, its = socket.socketpair(socket.AF_UNIX)
    process = context.Process(target=_end, args=(host, its, theirs, role), daemon=True)
    process.start()
    its.close()
    _, descriptors, _, _ = socket.recv_fds(mine, 1, 1)
    if not descriptors:
        raise EdgespecError("the two networks cannot be made: run this as root, on Linux with /dev/net/tun.")
    return process, ours, descriptors[0]


def _end(host: str, to_parent: socket.socket, pipe: Connection, role: Role) -> None:
    """One end: a network with one device, and the function that lives there."""
    if ctypes.CDLL(None, use_errno=True).unshare(CLONE_NEWNET) != 0:
        raise OSError(ctypes.get_errno(), "no network namespace: this needs root")
    device = os.open("/dev/net/tun", os.O_RDWR)
    fcntl.ioctl(device, TUNSETIFF, struct.pack("16sH22x", DEVICE.encode(), IFF_TUN | IFF_NO_PI))
    for command in (f"addr add {host}/24 dev {DEVICE}", f"link set {DEVICE} up", "link set lo up"):
        subprocess.run(["ip", *command.split()], check=True)
    socket.send_fds(to_parent, [b"x"], [device])
    os.close(device)
    role(pipe)
