"""Builds edgespec._native with CMake, and CUDA kernels if EDGESPEC_CUDA_ARCHS names any architectures ("80;87;90").

All metadata is in pyproject.toml. EDGESPEC_SPLIT_PAIR=1 builds the wheel for an index: without the bundled target,
which `edgespec[server]` then brings as the distribution edgespec-pair (packaging/pair). Other builds hold everything.
"""

import os
import shlex
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path

from setuptools import Distribution, Extension, find_packages, setup
from setuptools.command.build_ext import build_ext

ROOT = Path(__file__).parent.resolve()
PAIR_PATTERNS = ("target/*", "exits/*", "figures.json", "reliability.png")
"""The files of edgespec/pair that edgespec-pair holds."""


class SplitDistribution(Distribution):
    """Leaves out what edgespec-pair holds, and requires it of servers."""

    def parse_config_files(
        self, filenames: list[str] | None = None, ignore_option_errors: bool = False
    ) -> None:
        super().parse_config_files(filenames, ignore_option_errors)
        self.extras_require["server"].append(f"edgespec-pair=={self.metadata.version}")
        self.exclude_package_data = {"edgespec": [f"pair/{name}" for name in PAIR_PATTERNS]}


class CMakeBuild(build_ext):
    """A fixed build folder for each interpreter, so that a second build compiles only what changed."""

    def run(self) -> None:
        super().run()
        if architectures := os.environ.get("EDGESPEC_CUDA_ARCHS"):
            self.build_kernels(architectures)

    def build_kernels(self, architectures: str) -> None:
        """By the package that has just been built, which needs torch and triton: pip's --no-build-isolation."""
        if self.editable_mode:
            raise SystemExit(
                "EDGESPEC_CUDA_ARCHS is for ordinary installs: here, run `edgespec kernels build`."
            )
        package = Path(self.build_lib).resolve() / "edgespec"
        out = package / "kernels" / "built"
        arguments = ["kernels", "build", "--archs", architectures, "--out", str(out)]
        subprocess.run(
            [sys.executable, "-c", "from edgespec.cli.main import main; main()", *arguments],
            check=True,
            cwd=package.parent,
        )

    def build_extension(self, ext: Extension) -> None:
        import pybind11

        module = Path(self.get_ext_fullpath(ext.name)).resolve()
        build = ROOT / "build" / f"cmake-{sysconfig.get_platform()}-{sys.implementation.cache_tag}"
        configure = [
            "cmake",
            "-S",
            str(ROOT),
            "-B",
            str(build),
            "-G",
            "Ninja",
            f"-DCMAKE_MAKE_PROGRAM={shutil.which('ninja')}",
            f"-DCMAKE_BUILD_TYPE={os.environ.get('EDGESPEC_BUILD_TYPE', 'Release')}",
            f"-DCMAKE_LIBRARY_OUTPUT_DIRECTORY={module.parent}",
            f"-DPython_EXECUTABLE={sys.executable}",
            f"-Dpybind11_DIR={pybind11.get_cmake_dir()}",
            *shlex.split(os.environ.get("CMAKE_ARGS", "")),
        ]
        # CMake's cache would keep the last build's options, and its environment of pip, which is gone.
        (build / "CMakeCache.txt").unlink(missing_ok=True)
        subprocess.run(configure, check=True)
        subprocess.run(["cmake", "--build", str(build)], check=True)


setup(
    distclass=SplitDistribution if os.environ.get("EDGESPEC_SPLIT_PAIR") == "1" else Distribution,
    packages=[
        *find_packages(include=["edgespec", "edgespec.*"]),
        "edgespec.kernels",
        "edgespec.tensorrt_engines",
    ],
    ext_modules=[Extension("edgespec._native", sources=[])],
    cmdclass={"build_ext": CMakeBuild},
)
