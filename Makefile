# The menu. Each line is a script that works without make, too.
.PHONY: help test quick lint format demo bench crash zipapp dev clean

help:    ; @grep -E '^[a-z]+:.*## ' Makefile | sed -E 's/^([a-z]+):.*## /\1 - /'    ## this list
test:    ; ./scripts/test                          ## a real case of each promise, as README says
quick:   ; ./scripts/test -m 'not slow'            ## without real builds and the real torch
lint:    ; ./scripts/test --lint tests/unit        ## ruff, mypy, import-linter, unit tests
format:  ; .venv-lint/bin/ruff check --fix . && .venv-lint/bin/ruff format .  ## after `make lint`
demo:    ; ./scripts/demo                          ## the main job and two harmful installs, in a minute
bench:   ; .venv-test/bin/python scripts/bench.py  ## times beside pip and uv (after `make dev`)
crash:   ; d=$$(mktemp -d) && p=$$PWD/.venv-test/bin/python && $$p tests/crash/full.py --folder $$d && $$p -m tests.crash.program --kills 500 --signals 100 --steps --faults && $$p -m tests.crash.power --cuts 600  ## kills, faults, power cuts at length (after `make dev`, as root)
zipapp:  ; ./scripts/build_zipapp                  ## dist/safe-install.pyz
dev:     ; ./scripts/test --collect-only -q        ## make .venv-test with the project in it
clean:   ; rm -rf .venv-* .demo dist build .mypy_cache .ruff_cache .pytest_cache .import_linter_cache  ## what the others made
