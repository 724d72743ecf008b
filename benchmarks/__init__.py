"""Measurements of edgespec, each a module: `python -m benchmarks` lists them."""

import sys
from pathlib import Path

# `python -m` puts the source tree first on the path. Its edgespec holds a native module only where it was built in
# place (`pip install -e`); otherwise the installed package is the one to measure. The tree stays, at the end of the
# path: processes that a benchmark starts look for it there.
_ROOT = Path(__file__).resolve().parent.parent
if not any((_ROOT / "edgespec").glob("_native*.so")):
    sys.path[:] = [*(entry for entry in sys.path if Path(entry).resolve() != _ROOT), str(_ROOT)]
