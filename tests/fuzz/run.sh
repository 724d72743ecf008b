#!/usr/bin/env bash
# Run each fuzz target for SECONDS. Usage: tests/fuzz/run.sh SECONDS [TARGET...]. What clang's libFuzzer finds new is
# kept in build/fuzz/corpus; an input that breaks something is written to build/fuzz, and its path printed.
set -euo pipefail
cd "$(dirname "$0")/../.."
export UBSAN_OPTIONS=halt_on_error=1:print_stacktrace=1
seconds=$1
shift
[ $# -gt 0 ] || set -- parser peer session tls
if ! command -v clang++ >/dev/null; then
  echo "there is no clang++: seeded mutations instead of libFuzzer"
  cmake -S . -B build/fuzz -G Ninja -DEDGESPEC_PYTHON=OFF -DEDGESPEC_TESTS=ON -DEDGESPEC_SANITIZE=address,undefined
  cmake --build build/fuzz
  exec ctest --test-dir build/fuzz --output-on-failure -R fuzz
fi
cmake -S . -B build/fuzz -G Ninja -DCMAKE_CXX_COMPILER=clang++ -DEDGESPEC_PYTHON=OFF -DEDGESPEC_FUZZ=ON \
  -DEDGESPEC_SANITIZE=address,undefined >/dev/null
cmake --build build/fuzz
for target in "$@"; do
  if [ ! -x "build/fuzz/tests/fuzz/fuzz_$target" ]; then
    echo "fuzz_$target did not run: it needs OpenSSL's headers, 3.0 or later"
    continue
  fi
  mkdir -p "build/fuzz/corpus/$target"
  "build/fuzz/tests/fuzz/fuzz_$target" -max_total_time="$seconds" -artifact_prefix=build/fuzz/ -print_final_stats=1 \
    "build/fuzz/corpus/$target" "tests/fuzz/corpus/$target"
done
