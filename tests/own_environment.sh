# shellcheck shell=bash
# What the tests in environments of their own share; sourced from the repository's root. KEPT names the environment that
# is kept for the next time; an empty one goes when the script ends.
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
environment=${KEPT:-$scratch/environment}
export PIP_DISABLE_PIP_VERSION_CHECK=1 CMAKE_BUILD_PARALLEL_LEVEL=${CMAKE_BUILD_PARALLEL_LEVEL:-2}

# ARGUMENT...: the environment's pip. A package index that cannot be reached is the one reason to leave the tests out.
from_index() {
  "$environment/bin/pip" "$@" && return
  if "$environment/bin/pip" download --quiet --no-deps --no-cache-dir --retries 1 --dest "$scratch/probe" pip \
    >/dev/null 2>&1; then
    echo "pip failed, though the package index answers: pip $*" >&2
    exit 1
  fi
  echo "-- left out: the package index cannot be reached, for pip $*"
  exit 0
}

# REQUIREMENT...: installs them. Modules are compiled when they are imported: most of a large package never is.
install() {
  from_index install --quiet --no-compile "$@"
}

# EXTRAS [REQUIREMENT...]: installs edgespec with them, from the wheel that `make wheels` made of these sources, if any.
install_edgespec() {
  local extras=$1 tag wheel pair
  shift
  tag=$("$environment/bin/python" -c 'import sys; print("cp%d%d" % sys.version_info[:2])')
  wheel=$(.ci/wheel "$tag" "$(uname -m)")
  pair=$(find build/wheels -name 'edgespec_pair-*.whl' -print -quit 2>/dev/null || true)
  if [ -n "$wheel" ] && [ -n "$pair" ]; then
    echo "from $wheel"
    install "${wheel}[$extras]" "$pair" "$@"
  else
    # Link-time optimisation changes no behaviour, and takes a minute.
    CMAKE_ARGS="-DCMAKE_INTERPROCEDURAL_OPTIMIZATION=OFF" install ".[$extras]" "$@"
  fi
}
