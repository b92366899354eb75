# A fresh machine with Python and make needs nothing else: environments are made as they are needed, outside of the tree.
PYTHON ?= python3

.PHONY: demo test check corpus faults bench bench-gate wheel clean

demo:
	@$(PYTHON) .ci/test.py demo

test:
	@$(PYTHON) .ci/test.py test

check:
	@$(PYTHON) .ci/test.py check

corpus:
	@$(PYTHON) .ci/test.py corpus

faults:
	@$(PYTHON) .ci/test.py faults

bench:
	@$(PYTHON) .ci/test.py bench

bench-gate:
	@$(PYTHON) .ci/test.py bench-gate

wheel:
	@$(PYTHON) .ci/test.py wheel

clean:
	rm -rf dist build .mypy_cache .ruff_cache .pytest_cache
