#!/usr/bin/env bash
# The fleet's tests in an environment of its own: Ray is large, and no other test needs it. FLEET_ENVIRONMENT keeps it for
# the next time.
set -euo pipefail
cd "$(dirname "$0")/.."
KEPT=${FLEET_ENVIRONMENT:-}
# shellcheck source=tests/own_environment.sh
. tests/own_environment.sh
[ -x "$environment/bin/pytest" ] || {
  python3 -m venv "$environment"
  install_edgespec ray pytest pytest-timeout hypothesis
}
# A fleet joins the cluster that runs on its machine, and the tests would end another's servers.
if pgrep -x gcs_server >/dev/null; then
  echo "a Ray cluster runs on this machine: end it first (ray stop), for the tests kill servers of theirs" >&2
  exit 1
fi
"$environment/bin/pytest" -q -rs -p no:cacheprovider \
  tests/test_fleet.py tests/test_fleet_scaling.py tests/test_fleet_demo.py tests/test_replica.py
