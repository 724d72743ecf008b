# Short names for what one does every day. The commands behind them are the truth.
.PHONY: build test lint format bench docs house pythons compilers tidy test-cpp fuzz sanitize short dist-check aarch64 clean

build:  ## editable install with everything
	pip install -e '.[all]'

test:  ## the whole suite, on two cores
	pytest -q -n 2

test-cpp:  ## the C++ tests and the fuzzers' corpora, without Python
	cmake -S . -B build/cpp -G Ninja -DEDGESPEC_PYTHON=OFF -DEDGESPEC_TESTS=ON
	cmake --build build/cpp
	ctest --test-dir build/cpp --output-on-failure

FUZZ_S ?= 60
fuzz:  ## each fuzz target for FUZZ_S seconds; with clang by libFuzzer, else by seeded mutations
	tests/fuzz/run.sh $(FUZZ_S)

sanitize:  ## C++ tests, and Python's of everything native, under ASan with UBSan, and under TSan
	tests/sanitize.sh address,undefined
	tests/sanitize.sh thread

dist-check:  ## an sdist, a wheel from it, and what the wheel leaves to the system
	tests/dist_check.sh

short:  ## a few minutes of fuzz and sanitize, as CI does it
	.ci/short

aarch64:  ## the C++ tests for aarch64 (g++-aarch64-linux-gnu), run by qemu-aarch64 where that is
	cmake -S . -B build/aarch64 -G Ninja -DCMAKE_SYSTEM_NAME=Linux -DCMAKE_SYSTEM_PROCESSOR=aarch64 \
	  -DCMAKE_CXX_COMPILER=aarch64-linux-gnu-g++ -DCMAKE_EXE_LINKER_FLAGS=-static \
	  -DCMAKE_CROSSCOMPILING_EMULATOR=qemu-aarch64 -DEDGESPEC_TLS=OFF -DEDGESPEC_PYTHON=OFF -DEDGESPEC_TESTS=ON
	cmake --build build/aarch64
	if command -v qemu-aarch64 >/dev/null; then ctest --test-dir build/aarch64 --output-on-failure; \
	else echo "compiled; to run it, install qemu-user"; fi

lint:  ## what CI holds the code to; types are checked in the installed package (pip install '.[all]')
	ruff check .
	ruff format --check .
	cd / && python -m mypy --config-file $(CURDIR)/pyproject.toml -p edgespec
	cd / && python -m mypy --config-file $(CURDIR)/pyproject.toml $(CURDIR)/examples/*.py
	cd / && lint-imports --config $(CURDIR)/pyproject.toml --no-cache
	clang-format --dry-run --Werror $$(git ls-files 'csrc/*.cpp' 'csrc/*.hpp' 'tests/*.cpp' 'tests/*.hpp')

format:  ## put the code into shape
	ruff check --fix .
	ruff format .
	clang-format -i $$(git ls-files 'csrc/*.cpp' 'csrc/*.hpp' 'tests/*.cpp' 'tests/*.hpp')

docs:  ## the documentation site, in build/site; a warning or a dead link is an error
	mkdocs build --strict --site-dir build/site

house:  ## how large and how tangled the code is, beside what it may be
	python -m benchmarks.house

PYTHONS ?= python3.10 python3.12 python3.13
pythons:  ## the edge's tests on the other Pythons that this machine has, without torch
	@for python in $(PYTHONS); do \
	  found=; \
	  for one in $$python $$HOME/.pyenv/versions/$${python#python}*/bin/$$python; do \
	    "$$one" --version >/dev/null 2>&1 && found=$$one && break; done; \
	  if [ -n "$$found" ]; then echo "-- $$python"; .ci/edge "$$found" || exit 1; \
	  else echo "-- $$python is not on this machine"; fi; done

compilers:  ## the C++ without a warning, by every compiler that this machine has
	.ci/compilers

tidy:  ## clang-tidy over the C++ libraries, where clang-tidy is
	@if ! command -v clang-tidy >/dev/null; then echo "-- clang-tidy is not on this machine"; exit 0; fi; \
	test -f build/tidy/compile_commands.json || cmake -S . -B build/tidy -G Ninja -DEDGESPEC_PYTHON=OFF >/dev/null; \
	git ls-files 'csrc/threads/*.cpp' 'csrc/noise/*.cpp' 'csrc/simd/tier.cpp' 'csrc/sampling/*.cpp' 'csrc/decoder/*.cpp' \
	  'csrc/wire/*.cpp' | xargs -P 2 -n 4 clang-tidy -p build/tidy --quiet

bench:  ## microbenchmarks, not part of the tests
	pytest benchmarks --benchmark-only -q

clean:
	rm -rf build dist *.egg-info edgespec/_native*.so
