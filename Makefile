# Every target only calls its script; the scripts say more with --help or in their first lines.
# Arguments: make tour ARGS=~/notes    make test ARGS="-k store"

ARGS ?=

.PHONY: help setup tour test check bench clean
.DEFAULT_GOAL := help

help: ## this list
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "  make %-7s %s\n", $$1, $$2 }' Makefile

setup: ## install everything into .venv
	@scripts/setup $(ARGS)

tour: ## set up, then tune, prove and chat on a small sample (or ARGS=FOLDER)
	@scripts/tour $(ARGS)

test: ## set up, then run every check and test
	@scripts/test $(ARGS)

check: ## style, types and layers only
	@scripts/check

bench: ## measure this machine, write the results and the tables in the docs
	@scripts/bench $(ARGS)

clean: ## remove what can be made again (not .venv, not the store)
	@scripts/clean
