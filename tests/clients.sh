#!/usr/bin/env bash
# Clients of the API in an environment of its own. CLIENTS_ENVIRONMENT keeps it for the next time; EDGESPEC_EXAMPLES=100
# lets schemathesis search for longer.
set -euo pipefail
cd "$(dirname "$0")/.."
KEPT=${CLIENTS_ENVIRONMENT:-}
# shellcheck source=tests/own_environment.sh
. tests/own_environment.sh
[ -x "$environment/bin/litellm" ] || {
  python3 -m venv "$environment"
  install_edgespec edge-test,otel litellm langchain-openai llm schemathesis
}
"$environment/bin/pytest" -q -rs -p no:cacheprovider --disable-warnings tests/test_api_clients.py tests/test_api_tracing.py \
  tests/test_api_texts.py tests/test_api_responses.py tests/test_api_tools.py tests/test_dashboard.py
