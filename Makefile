# A fresh machine with Python and make needs nothing else: environments are made as they are needed, outside of the tree.
PYTHON ?= python3

.PHONY: demo test check corpus faults wheel false-alarms clean

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

wheel:
	@$(PYTHON) .ci/test.py wheel

# Half an hour: the suites of uvicorn, starlette and anyio, into docs/false-alarms.md.
false-alarms:
	@$(PYTHON) .ci/test.py false-alarms

clean:
	rm -rf dist build .mypy_cache .ruff_cache .pytest_cache
