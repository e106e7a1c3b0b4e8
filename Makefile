# make demo   sets everything up, builds the demo index and serves the page
# make test   sets everything up and runs every check: lint, types, import floors, tests, the browser's too

VENV := .venv
BIN := $(VENV)/bin

.PHONY: demo test lint clean

demo: $(VENV)/.ready
	$(BIN)/semsearch demo

test: $(VENV)/.ready-dev lint
	scripts/set-up-browser.sh
	$(BIN)/pytest -n 2 --dist loadfile

lint: $(VENV)/.ready-dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/lint-imports
	$(BIN)/mypy

$(VENV)/.ready: pyproject.toml constraints.txt scripts/set-up.sh
	scripts/set-up.sh $(VENV) '.[onnx]'
	touch $@

$(VENV)/.ready-dev: pyproject.toml constraints.txt scripts/set-up.sh
	scripts/set-up.sh $(VENV) '.[dev]'
	touch $@ $(VENV)/.ready

clean:
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache .import_linter_cache
