"""Looks into the wheels in a folder: tags, contents, size, what they require, which versions of symbols they need.

Usage: check_wheels.py FOLDER. The first fault ends it with an AssertionError.
"""

import re
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Iterator
from email.parser import Parser
from pathlib import Path

LARGEST_BYTES = 15_000_000
TAG = re.compile(r"edgespec-[\d.]+-cp(\d+)-cp\1-manylinux_2_\d+_(x86_64|aarch64)\.whl")
NEWEST = {"GLIBC": (2, 34), "GLIBCXX": (3, 4, 30)}
"""Versions of symbols that JetPack 6 has, and so the newest of a wheel for aarch64. A wheel for this machine is made of
its own C library."""
SYSTEM = {"libstdc++.so.6", "libgcc_s.so.1", "libc.so.6", "libm.so.6", "libssl.so.3", "libcrypto.so.3"}
HOLDS = (
    "edgespec/_native.pyi",
    "edgespec/py.typed",
    "edgespec/pair/engine/draft.onnx",
    "edgespec/pair/draft/model.safetensors",
    "edgespec/kernels/philox.py",
    "edgespec/tensorrt_engines/profiles/orin-nano-8gb.toml",
)
PAIR_HOLDS = ("edgespec_pair/target/model.safetensors", "edgespec_pair/exits/exits.safetensors")


def main(folder: Path) -> None:
    wheels = sorted(folder.glob("edgespec-*.whl"))
    assert wheels, f"there is no wheel in {folder}"
    (pair,) = folder.glob("edgespec_pair-*.whl")
    with zipfile.ZipFile(pair) as archive:
        absent = set(PAIR_HOLDS) - set(archive.namelist())
    assert not absent, f"{pair.name} lacks {absent}"
    for wheel in wheels:
        check(wheel, pair.name.split("-")[1])


def check(wheel: Path, version: str) -> None:
    size = wheel.stat().st_size
    assert TAG.fullmatch(wheel.name), f"{wheel.name} has another name than expected"
    assert size <= LARGEST_BYTES, f"{wheel.name} is {size / 1e6:.1f} MB large"
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
        metadata = next(name for name in names if name.endswith(".dist-info/METADATA"))
        required = Parser().parsestr(archive.read(metadata).decode()).get_all("Requires-Dist", [])
        (native,) = (name for name in names if "/_native." in name and name.endswith(".so"))
        with tempfile.TemporaryDirectory() as scratch:
            library = archive.extract(native, scratch)
            needed, versions = set(libraries(library)), symbol_versions(library)
    absent = set(HOLDS) - set(names)
    assert not absent, f"{wheel.name} lacks {absent}"
    extra = [
        name
        for name in names
        if name.startswith(("edgespec/pair/target", "edgespec/pair/exits", "edgespec.libs"))
    ]
    assert not extra, f"{wheel.name} holds {extra}"
    servers = [one for one in required if one.replace(" ", "").startswith(f"edgespec-pair=={version};")]
    assert len(servers) == 1 and "server" in servers[0], f"{wheel.name} requires {required}"
    assert "libssl.so.3" in needed, f"{wheel.name} was built without TLS"
    assert {one for one in needed if not one.startswith("ld-linux")} <= SYSTEM, f"{wheel.name} needs {needed}"
    for name, newest in NEWEST.items() if "_aarch64" in wheel.name else ():
        assert versions[name] <= newest, f"{wheel.name} needs {name}_{versions[name]}, newer than JetPack 6's"
    print(f"{wheel.name}: {size / 1e6:.1f} MB, {len(names)} files, {versions}")


def libraries(path: str) -> Iterator[str]:
    printed = subprocess.run(
        ["readelf", "--dynamic", path], capture_output=True, text=True, check=True
    ).stdout
    return (match[1] for match in re.finditer(r"\(NEEDED\).*\[(.+)\]", printed))


def symbol_versions(path: str) -> dict[str, tuple[int, ...]]:
    """The newest version that a library needs, for each name of NEWEST."""
    printed = subprocess.run(["readelf", "--version-info", path], capture_output=True, text=True, check=True)
    found = re.findall(r"Name: (\w+)_([\d.]+)\b", printed.stdout)
    versions = {
        name: [tuple(map(int, number.split("."))) for one, number in found if one == name] for name in NEWEST
    }
    return {name: max(numbers) for name, numbers in versions.items()}


if __name__ == "__main__":
    main(Path(sys.argv[1]))
