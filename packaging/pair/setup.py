"""The distribution edgespec-pair: the bundled target and its exits, which a server holds and a device does not.

Build it in a clone of the repository: `pip wheel --no-deps packaging/pair`. Its files stay where the sources have them.
"""

import runpy
from pathlib import Path

from setuptools import setup

ROOT = Path("..", "..")

setup(
    name="edgespec-pair",
    version=runpy.run_path(str(ROOT / "edgespec" / "_version.py"))["__version__"],
    description="The bundled target model of edgespec and its early exits, for servers",
    long_description=(ROOT / "edgespec" / "pair" / "README.md").read_text(encoding="utf-8"),
    long_description_content_type="text/markdown",
    license="Apache-2.0",
    url="https://github.com/edgespec/edgespec",
    python_requires=">=3.10",
    packages=["edgespec_pair"],
    package_dir={"edgespec_pair": str(ROOT / "edgespec" / "pair")},
    package_data={"edgespec_pair": ["README.md", "figures.json", "reliability.png", "target/*", "exits/*"]},
    include_package_data=False,
)
