#!/bin/bash
# Clients of the API in an environment of its own. CLIENTS_ENVIRONMENT keeps it for the next time; EDGESPEC_EXAMPLES=100
# lets schemathesis search for longer.
set -euo pipefail
cd "$(dirname "$0")/.."
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
environment=${CLIENTS_ENVIRONMENT:-$scratch/environment}
export PIP_DISABLE_PIP_VERSION_CHECK=1 CMAKE_BUILD_PARALLEL_LEVEL=${CMAKE_BUILD_PARALLEL_LEVEL:-2}
[ -x "$environment/bin/litellm" ] || {
  python3 -m venv "$environment"
  # Link-time optimisation changes no behaviour, and takes a minute.
  CMAKE_ARGS="-DCMAKE_INTERPROCEDURAL_OPTIMIZATION=OFF" \
    "$environment/bin/pip" install --quiet '.[edge-test,otel]' litellm langchain-openai llm schemathesis
}
"$environment/bin/pytest" -q -rs -p no:cacheprovider --disable-warnings tests/test_api_clients.py tests/test_api_tracing.py \
  tests/test_api_texts.py tests/test_api_responses.py tests/test_api_tools.py tests/test_dashboard.py
