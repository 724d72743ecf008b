"""A private certificate authority for a fleet, made by the `openssl` command, 3.0 or newer.

FOLDER/ca.pem       every edge gets it (--tls-ca)            ca.key      signs; keep it off the servers
FOLDER/NAME.pem     a server's or device's certificate       NAME.key    its key
"""

from __future__ import annotations

import ipaddress
import os
import re
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path

from edgespec.core.access import check_device_name
from edgespec.core.errors import EdgespecError

AUTHORITY_DAYS = 3650
HOST_NAME = re.compile(r"[A-Za-z0-9*]([A-Za-z0-9.-]{0,61}[A-Za-z0-9])?")
AUTHORITY = """basicConstraints = critical, CA:TRUE, pathlen:0
keyUsage = critical, keyCertSign, cRLSign
subjectKeyIdentifier = hash
"""
LEAF = """basicConstraints = critical, CA:FALSE
keyUsage = critical, digitalSignature
subjectKeyIdentifier = hash
authorityKeyIdentifier = keyid
"""


def make_authority(folder: Path) -> None:
    """Raises EdgespecError where there is one already, since edges trust it."""
    if (folder / "ca.key").exists() or (folder / "ca.pem").exists():
        raise EdgespecError(f"{folder} holds an authority already: use it, or another folder.")
    folder.mkdir(parents=True, exist_ok=True)
    _make(folder, "ca", "edgespec fleet authority", AUTHORITY, AUTHORITY_DAYS)


def issue_for_server(folder: Path, hosts: Sequence[str], days: int) -> None:
    """Make server.pem, for a server that edges reach under any of these names or addresses."""
    alternatives = ", ".join(_alternative(host) for host in hosts)
    extensions = f"{LEAF}extendedKeyUsage = serverAuth\nsubjectAltName = {alternatives}\n"
    _make(folder, "server", hosts[0], extensions, days, authority=folder)


def issue_for_device(folder: Path, device: str, days: int) -> None:
    """Make DEVICE.pem, which identifies this device to a server (--tls-client-ca)."""
    if check_device_name(device) in ("ca", "server"):
        raise EdgespecError(f"{device} is the name of another certificate: call the device something else.")
    _make(folder, device, device, f"{LEAF}extendedKeyUsage = clientAuth\n", days, authority=folder)


def _alternative(host: str) -> str:
    try:
        return f"IP:{ipaddress.ip_address(host)}"
    except ValueError:
        if not HOST_NAME.fullmatch(host):
            raise EdgespecError(
                f"{host!r} is no name or address of a host: give what edges call the server by."
            ) from None
        return f"DNS:{host}"


def _make(
    folder: Path, name: str, common_name: str, extensions: str, days: int, authority: Path | None = None
) -> None:
    """A key and a certificate for it, signed by the authority in that folder, or by itself."""
    if authority is not None and not (authority / "ca.key").exists():
        raise EdgespecError(f"{authority} holds no authority: make one with `edgespec tls init {authority}`.")
    with tempfile.TemporaryDirectory(dir=folder) as scratch:
        key, certificate, config = (Path(scratch) / file for file in ("key", "certificate", "config"))
        config.write_text(
            f"[req]\ndistinguished_name = name\nprompt = no\nx509_extensions = extensions\n"
            f"[name]\nCN = {common_name}\n[extensions]\n{extensions}"
        )
        signer = () if authority is None else ("-CA", authority / "ca.pem", "-CAkey", authority / "ca.key")
        _openssl(
            "req", "-x509", "-config", config, "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes",
            "-keyout", key, "-out", certificate, "-days", days, "-sha256", *signer,
        )  # fmt: skip
        key.chmod(0o600)
        certificate.chmod(0o644)
        os.replace(key, folder / f"{name}.key")
        os.replace(certificate, folder / f"{name}.pem")


def _openssl(*arguments: object) -> None:
    try:
        result = subprocess.run(
            ["openssl", *map(str, arguments)],
            capture_output=True,
            text=True,
            stdin=subprocess.DEVNULL,
            check=False,
        )
    except FileNotFoundError:
        raise EdgespecError("this needs the openssl command: install the package openssl.") from None
    if result.returncode != 0:
        last = (result.stderr.strip().splitlines() or ["no reason given"])[-1]
        raise EdgespecError(f"openssl {arguments[0]} failed ({last}).")
