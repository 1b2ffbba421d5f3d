.PHONY: demo test lint bench clean

demo: ## Install, then train a language model and let it write
	pip install . && fastlstm demo

test: ## Install with what the tests need, then run them all: lint, types, units, properties, doctests
	pip install '.[test]' && pytest

lint: ## Put the sources into shape
	ruff check --fix . && ruff format .

bench: ## Time us beside the peers that are installed
	pip install torch==2.13.0 && pip install '.[bench]' && python -m bench

clean: ## Remove what builds and runs leave behind
	rm -rf build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis
	find . -name '*.so' -o -name '__pycache__' -prune | xargs rm -rf
