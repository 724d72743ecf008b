# Cross-compiles for aarch64 with the g++ of JetPack 6 (Debian: g++-11-aarch64-linux-gnu) against the Debian root in
# EDGESPEC_SYSROOT, which `.ci/aarch64-root` makes. What was compiled runs under qemu-user.
set(CMAKE_SYSTEM_NAME Linux)
set(CMAKE_SYSTEM_PROCESSOR aarch64)
set(CMAKE_CXX_COMPILER aarch64-linux-gnu-g++-11)
set(EDGESPEC_SYSROOT "$ENV{EDGESPEC_SYSROOT}" CACHE PATH "Root with libc6-dev and libssl-dev for arm64")
list(APPEND CMAKE_TRY_COMPILE_PLATFORM_VARIABLES EDGESPEC_SYSROOT)
set(CMAKE_SYSROOT ${EDGESPEC_SYSROOT})
set(CMAKE_CROSSCOMPILING_EMULATOR qemu-aarch64-static -L ${EDGESPEC_SYSROOT} -cpu cortex-a76)
set(CMAKE_FIND_ROOT_PATH_MODE_PROGRAM NEVER)
set(CMAKE_FIND_ROOT_PATH_MODE_LIBRARY ONLY)
set(CMAKE_FIND_ROOT_PATH_MODE_INCLUDE ONLY)
set(CMAKE_FIND_ROOT_PATH_MODE_PACKAGE BOTH)
