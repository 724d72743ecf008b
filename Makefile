# Short names for what one does every day. The commands behind them are the truth.
.PHONY: build test fleet clients ros go2 llamacpp vllm lint format bench docs house pythons compilers tidy test-cpp fuzz sanitize short dist-check wheels aarch64 aarch64-short clean

build:  ## editable install with everything
	pip install -e '.[all]'

test:  ## the whole suite, on two cores
	pytest -q -n 2

fleet:  ## a fleet of three servers under Ray, one of them killed in mid-text, in an environment of its own
	tests/fleet.sh

vllm:  ## texts over vLLM with and without drafts, and through sessions, in an environment of its own
	tests/vllm.sh

clients:  ## OpenAI's client, LiteLLM, LangChain, llm and schemathesis against the API, in an environment of its own
	tests/clients.sh

ros:  ## the ROS 2 node on rclpy from PyPI, in an environment of its own
	tests/robot.sh ros

go2:  ## a Go2 that walks in MuJoCo, in an environment of its own
	tests/robot.sh go2

llamacpp:  ## texts over llama.cpp with and without drafts, on a small GGUF file, in an environment of its own
	tests/llamacpp.sh

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

wheels:  ## the wheels that an index would hold: this machine's, and aarch64's by a cross compiler
	.ci/wheels

aarch64:  ## the edge for aarch64, compiled by JetPack 6's series of g++ and run under qemu-user
	.ci/aarch64

aarch64-short:  ## the same with fewer tests, as CI does it
	.ci/aarch64 --short

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

PYTHONS ?= 3.10 3.12 3.13
pythons:  ## the edge's tests on the other Pythons that this machine has, without torch
	@for version in $(PYTHONS); do \
	  if python=$$(.ci/python $$version); then echo "-- $$python"; .ci/edge "$$python" || exit 1; \
	  else echo "-- python$$version is not on this machine"; fi; done

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
