# A fresh machine with Python and make needs nothing else: environments are made as they are needed, outside of the tree.
PYTHON ?= python3

.PHONY: demo otel-demo dashboards test check corpus faults wheel clean

demo:
	@$(PYTHON) .ci/test.py demo

# A Collector and a store on the loopback interface, without Docker; ONCE=1 prints what the store answers, and ends.
otel-demo:
	@$(PYTHON) .ci/test.py otel-demo $(if $(ONCE),--once)

dashboards:
	@$(PYTHON) .ci/test.py dashboards

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

clean:
	rm -rf dist build .mypy_cache .ruff_cache .pytest_cache
