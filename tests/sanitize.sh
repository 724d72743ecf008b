#!/usr/bin/env bash
# C++ tests, then the Python tests of everything native, on a build with sanitizers.
# Usage: tests/sanitize.sh address,undefined|thread [PYTEST ARGUMENTS]. Needs g++, cmake, ninja and edgespec's own
# requirements. Whatever a sanitizer finds ends the run.
set -euo pipefail
cd "$(dirname "$0")/.."
root=$PWD
sanitizers=$1
shift
build=$root/build/sanitize-${sanitizers%%,*}
export ASAN_OPTIONS=detect_leaks=1 UBSAN_OPTIONS=halt_on_error=1:print_stacktrace=1 TSAN_OPTIONS=halt_on_error=1

# TSan cannot live with much randomness in where memory lies.
run=()
if [ "$sanitizers" = thread ] && setarch -R true 2>/dev/null; then run=(setarch -R); fi

module=$build/python/edgespec
mkdir -p "$module"
cmake -S . -B "$build" -G Ninja -DCMAKE_CXX_COMPILER=g++ -DCMAKE_BUILD_TYPE=Debug -DEDGESPEC_TESTS=ON -DEDGESPEC_UNITY=ON \
  -DEDGESPEC_SANITIZE="$sanitizers" \
  -DCMAKE_LIBRARY_OUTPUT_DIRECTORY="$module" -DPython_EXECUTABLE="$(command -v python)" \
  -Dpybind11_DIR="$(python -m pybind11 --cmakedir)" >/dev/null
cmake --build "$build"
${run[@]+"${run[@]}"} ctest --test-dir "$build" --output-on-failure

# The interpreter itself is not instrumented, so the runtime comes first; without libstdc++ beside it no exception passes.
for folder in edgespec: kernels:/kernels tensorrt_engines:/tensorrt_engines; do
  mkdir -p "$module${folder#*:}"
  tar -C "${folder%%:*}" --exclude '_native*.so' --exclude __pycache__ -cf - . | tar -C "$module${folder#*:}" -xf -
done
runtime=libasan.so
[ "$sanitizers" = thread ] && runtime=libtsan.so
[ $# -gt 0 ] || set -- tests/test_wire.py tests/test_net.py tests/test_tls.py tests/test_hostile_peers.py tests/test_listener_limits.py \
  tests/test_hedging.py tests/test_resume.py tests/test_philox.py tests/test_hint_mailbox.py
# `python -m pytest` would put this folder first, whose `edgespec` lacks what an installation adds.
# Python leaks by design at its end, and torch, where a test needs it, is not instrumented: leaks are C++'s tests' affair.
ASAN_OPTIONS=detect_leaks=0 PYTHONMALLOC=malloc PYTHONPATH=$build/python \
  LD_PRELOAD="$(g++ -print-file-name=$runtime) $(g++ -print-file-name=libstdc++.so)" \
  ${run[@]+"${run[@]}"} python -c 'import sys; sys.path.pop(0); import pytest; sys.exit(pytest.main())' \
  -q -p no:cacheprovider "$@"
