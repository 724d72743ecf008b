#!/bin/bash
# The fleet's test in an environment of its own: Ray is large, and no other test needs it.
set -euo pipefail
cd "$(dirname "$0")/.."
environment=${FLEET_ENVIRONMENT:-$(mktemp -d)}
[ -n "${FLEET_ENVIRONMENT:-}" ] || trap 'rm -rf "$environment"' EXIT
[ -x "$environment/bin/pytest" ] || {
  python3 -m venv "$environment"
  "$environment/bin/pip" install --quiet '.[ray]' pytest pytest-timeout hypothesis
}
"$environment/bin/pytest" -q tests/test_fleet.py tests/test_fleet_scaling.py tests/test_replica.py
