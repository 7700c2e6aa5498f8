# What reviewers run. Recipes of more than a few lines live in tools/.

VENV := .venv
PEERS := .venv-peers
FUZZ := .venv-fuzz
PYTHON := $(VENV)/bin/python
# Interop tests run python-eris with this interpreter: its package is named eris, as ours is, so the
# two cannot share an environment.
export KAPLA_PEERS_PYTHON ?= $(CURDIR)/$(PEERS)/bin/python
# Some environments have Python keep no byte code. The tests start it a thousand times, and each
# would compile our modules anew.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: all venv peers deps demo test tests style types coverage bench bench-bytes bench-peers campaign deb deb-test docs fuzz testbed torture vectors-large clean

all: style types tests

venv: $(VENV)/stamp

$(VENV)/stamp: setup.cfg pyproject.toml tools/make_venv.sh packaging/guix/kapla-guix
	@echo "venv: installing the project into $(VENV)"
	@tools/make_venv.sh $(VENV) -e '.[test]'
	@touch $@

peers: $(PEERS)/stamp

$(PEERS)/stamp: tools/make_venv.sh
	@echo "peers: installing python-eris into $(PEERS)"
	@tools/make_venv.sh $(PEERS) eris==1.0.0
	@touch $@

deps:
	@tools/deps.sh

demo: venv
	@$(PYTHON) tools/demo.py

style: venv
	$(VENV)/bin/ruff check .

types: venv
	$(VENV)/bin/mypy

test: venv deps peers style
	@tools/run_tests.sh $(PYTHON) $(VENV)/bin/mypy

tests: test

coverage: venv deps peers
	$(PYTHON) -m coverage erase
	$(PYTHON) -m coverage run -m pytest
	$(PYTHON) -m coverage combine --quiet
	$(PYTHON) -m coverage report

deb: venv
	@tools/make_deb.sh $(PYTHON)

# On a clean Debian, under a systemd of its own: needs root and some minutes.
deb-test: deb
	@tools/try_deb.sh

bench: venv peers
	$(PYTHON) -m benchmarks

bench-bytes: venv
	$(PYTHON) -m benchmarks bytes

bench-peers:
	@tools/bench_peers.sh

docs: $(VENV)/docs-stamp
	@tools/make_docs.sh $(PYTHON)

$(VENV)/docs-stamp: $(VENV)/stamp
	@echo "docs: installing Sphinx into $(VENV)"
	@tools/make_venv.sh $(VENV) -e '.[docs]'
	@touch $@

# Rounds of random examples until KAPLA_CAMPAIGN_SECONDS, 600 if it is not set, are over.
campaign: venv
	@tools/campaign.sh $(PYTHON) $${KAPLA_CAMPAIGN_SECONDS:-600}

# KAPLA_FUZZ_SECONDS is for each target, 20 if it is not set.
fuzz:
	@tools/fuzz.sh $(FUZZ)

# SECONDS_EACH or ROUNDS end each of the three kinds; SEED does again what was printed.
torture: venv
	@$(PYTHON) -m tests.torture --seconds $${SECONDS_EACH:-60} $${ROUNDS:+--rounds $$ROUNDS} $${SEED:+--seed $$SEED}

# SCENARIOS names some of them; SEED does again what was printed.
testbed: venv deps
	@$(PYTHON) -m benchmarks.testbed $${SEED:+--seed $$SEED} $${SCENARIOS:-}

vectors-large: venv
	$(PYTHON) -m pytest -m large

clean:
	rm -rf $(VENV) $(PEERS) $(FUZZ) build dist *.egg-info htmlcov .coverage .coverage.*
	rm -rf .hypothesis .mypy_cache .pytest_cache .ruff_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# "make -j2 test clean" must not clean under the feet of the tests.
ifneq ($(filter clean,$(MAKECMDGOALS)),)
.NOTPARALLEL:
endif
