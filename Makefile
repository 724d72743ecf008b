# Short names for what one does every day. The commands behind them are the truth.
.PHONY: build test lint format bench clean

build:  ## editable install with everything
	pip install -e '.[all]'

test:  ## the whole suite
	pytest -q

lint:  ## what CI holds the code to; types are checked in the installed package (pip install '.[all]')
	ruff check .
	ruff format --check .
	cd / && python -m mypy --config-file $(CURDIR)/pyproject.toml -p edgespec
	clang-format --dry-run --Werror $$(git ls-files 'csrc/*.cpp' 'csrc/*.hpp' 'tests/*.cpp')

format:  ## put the code into shape
	ruff check --fix .
	ruff format .
	clang-format -i $$(git ls-files 'csrc/*.cpp' 'csrc/*.hpp' 'tests/*.cpp')

bench:  ## microbenchmarks, not part of the tests
	pytest benchmarks --benchmark-only -q

clean:
	rm -rf build dist *.egg-info edgespec/_native*.so
