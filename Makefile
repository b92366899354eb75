# A fresh machine with Python and make needs nothing else: environments are made as they are needed, outside of the tree.
PYTHON ?= python3

.PHONY: demo otel-demo dashboards test pythons check corpus downstream faults soak fuzz bench bench-gate matrix wheel docs browser panes false-alarms flood clean

demo:
	@$(PYTHON) .ci/test.py demo

# A Collector and a store on the loopback interface, without Docker; ONCE=1 prints what the store answers, and ends.
otel-demo:
	@$(PYTHON) .ci/test.py otel-demo $(if $(ONCE),--once)

dashboards:
	@$(PYTHON) .ci/test.py dashboards

test:
	@$(PYTHON) .ci/test.py test

# All tests, and docs/pythons.md from how they went.
pythons:
	@$(PYTHON) .ci/test.py pythons

check:
	@$(PYTHON) .ci/test.py check

corpus:
	@$(PYTHON) .ci/test.py corpus

downstream:
	@$(PYTHON) .ci/test.py downstream

faults:
	@$(PYTHON) .ci/test.py faults

# An hour by default, with as many requests as are answered; RATE=15 leaves the machine to others.
soak:
	@$(PYTHON) .ci/test.py soak $(if $(MINUTES),--minutes $(MINUTES)) $(if $(RATE),--rate $(RATE))

# Ten minutes by default.
fuzz:
	@$(PYTHON) .ci/test.py fuzz $(if $(SECONDS),--seconds $(SECONDS))

bench:
	@$(PYTHON) .ci/test.py bench

bench-gate:
	@$(PYTHON) .ci/test.py bench-gate

matrix:
	@$(PYTHON) tests/matrix/run.py

wheel:
	@$(PYTHON) .ci/test.py wheel

docs:
	@$(PYTHON) .ci/test.py docs

# Needs Chromium: opens a report of a real program, light and dark, and looks for console messages and requests.
browser:
	@$(PYTHON) .ci/test.py browser

# Needs tmux: `leakagent top` over three programs, as it looks in a terminal.
panes:
	@$(PYTHON) .ci/test.py panes

# Half an hour: the suites of uvicorn, starlette and anyio, into docs/false-alarms.md.
false-alarms:
	@$(PYTHON) .ci/test.py false-alarms

# Some minutes: what questions without end on the live socket cost a program, into docs/security.md.
flood:
	@$(PYTHON) .ci/test.py flood

clean:
	rm -rf dist build .mypy_cache .ruff_cache .pytest_cache
