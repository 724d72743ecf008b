#!/usr/bin/env bash
# The sdist builds, and a wheel from it alone; the wheel leaves libssl and libcrypto to the system, and the package in it
# imports. Needs what pip needs to build edgespec; takes as long as an install.
set -euo pipefail
cd "$(dirname "$0")/.."
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

python -m pip install --quiet --target "$work/build" build
PYTHONPATH=$work/build python -m build --quiet --sdist --outdir "$work" .
python -m pip wheel --quiet --no-deps --wheel-dir "$work" "$work"/edgespec-*.tar.gz

python -m venv --system-site-packages "$work/environment"  # numpy and the like from here, edgespec from the wheel
"$work/environment/bin/python" -m pip install --quiet --no-deps --force-reinstall "$work"/edgespec-*.whl
cd "$work"
environment/bin/python - <<'PYTHON'
import pathlib, re, subprocess, zipfile

from edgespec import _native

assert "environment" in _native.__file__, f"another edgespec was imported: {_native.__file__}"
(wheel,) = pathlib.Path().glob("edgespec-*.whl")
names = zipfile.ZipFile(wheel).namelist()
bundled = [name for name in names if re.search(r"lib(ssl|crypto)", name)]
assert not bundled, f"the wheel brings {bundled}"
needed = subprocess.run(["ldd", _native.__file__], capture_output=True, text=True, check=True).stdout
assert ("libssl" in needed) == _native.HAVE_TLS, needed
print(f"{wheel}: {len(names)} files, TLS {'by the system libssl' if _native.HAVE_TLS else 'left out'}")
PYTHON
