# Needs Python >= 3.11 and make; everything else goes into .venv/ and build/. A second run is quick.
#
#   make demo      the daemon with an embedded chain, and a shop page to pay on
#   make test      lint, types, import rules, all tests; REQUIRE_ALL=1 makes a missing node or browser a failure
#   make nodes     anvil, geth and btcd into build/nodes
#   make bench     measurements into build/
#   make fuzz      a million generated logs through the EVM decoder
#   make cases     every payment case with its tests; fails for one that has none
#   make faults    the process ended at every statement, commit and hook call of a scenario; report in build/soak
#   make soak      generated histories for SOAK_HOURS (default 1), pure and on SQLite, then faults; reports in build/soak
#   make screens   screenshots of every page into build/

PYTHON ?= $(shell for p in python3 python3.14 python3.13 python3.12 python3.11; do \
	$$p -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo $$p && break; done)
BIN := .venv/bin
INSTALLED := .venv/.installed
NODES := build/nodes/.fetched

.DELETE_ON_ERROR:
.PHONY: demo test nodes bench fuzz cases faults soak screens install clean

demo: $(INSTALLED)
	$(BIN)/astrapayd demo

# The order is from quick to slow, so that a typo is told in a second. The generated histories are minutes of computing
# while the other tests mostly wait: they run beside them, and give way.
test: $(INSTALLED) nodes
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	@nice -n 19 $(BIN)/python -m pytest tests/property >build/property.log 2>&1 & property=$$!; \
	trap 'kill $$property' INT TERM; \
	$(BIN)/python -m pytest --ignore tests/property; rest=$$?; \
	wait $$property; histories=$$?; \
	echo "Beside them, the generated histories:"; cat build/property.log; \
	test $$rest -eq 0 -a $$histories -eq 0

nodes: $(NODES)

bench: $(INSTALLED) nodes
	$(BIN)/python -m benchmarks

fuzz: $(INSTALLED)
	ASTRAPAYD_FUZZ_EXAMPLES=100000 $(BIN)/python -m pytest tests/plugins/evm/test_decode.py tests/plugins/tron/test_tron_decode.py

cases: $(INSTALLED)
	$(BIN)/python -m tests.cases

faults: $(INSTALLED)
	$(BIN)/python -m tests.faults.run

# Fresh seeds each time; a failure is in the report with its seed and its history.
SOAK_HOURS ?= 1
soak: $(INSTALLED)
	$(BIN)/python -m tests.soak.histories --hours $(SOAK_HOURS) --with-engine
	$(BIN)/python -m tests.faults.run

screens: $(INSTALLED)
	$(BIN)/python -m tests.web.screens

install: $(INSTALLED)

clean:
	rm -rf .venv build dist *.egg-info

$(INSTALLED): setup.cfg pyproject.toml
	@test -n "$(PYTHON)" || { echo "Python 3.11 or newer is needed and was not found: install it, or say PYTHON=/path/to/python3" >&2; exit 1; }
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --upgrade pip
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -e '.[demo,dev]'
	@touch $@

# Without npm or Go the tests against anvil, geth or btcd are skipped, and the last line of the run says so; under
# REQUIRE_ALL=1 they fail.
$(NODES): tests/nodes/fetch.sh
	@mkdir -p $(@D)
	@if sh tests/nodes/fetch.sh; then touch $@; \
	else echo "the tests on what could not be fetched do not run" >&2; test "$(REQUIRE_ALL)" != 1; fi
