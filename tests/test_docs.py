"""The pages of the architecture name what exists: links, files, tuned numbers; and they stay short."""

import doctest
import re
from pathlib import Path

import pytest

from fastlstm.runtime import config

ROOT = Path(__file__).parents[1]
DESIGN = ROOT / "docs" / "design.md"
EXTENDING = ROOT / "docs" / "extending.md"
MODELS = ROOT / "docs" / "models.md"
PAGES = [DESIGN, EXTENDING, MODELS, *sorted((ROOT / "docs" / "decisions").glob("*.md")), ROOT / "CONTRIBUTING.md"]
EACH_PAGE = pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
NUMBERS = {name for name, *_ in config.describe()}


def words(page):
    """Return what stands in backticks outside of drawings."""
    text = re.sub(r"```.*?```", "", page.read_text(encoding="utf-8"), flags=re.DOTALL)
    return re.findall(r"`([^`\n]+)`", text)


def exists(path):
    return any((folder / path).exists() for folder in (ROOT, ROOT / "fastlstm"))


@EACH_PAGE
def test_links_lead_somewhere(page):
    links = re.findall(r"\]\((?!http)([^)#]+)\)", page.read_text(encoding="utf-8"))
    assert [link for link in links if not (page.parent / link).exists()] == []


@EACH_PAGE
def test_files_that_are_named_exist(page):
    named = [word for word in words(page) if re.fullmatch(r"[\w./]*/[\w.]*\.\w+|[\w/]+/", word) and "NAME" not in word]
    assert [path for path in named if not exists(path)] == []


@pytest.mark.parametrize("page", PAGES[:-1], ids=lambda page: page.stem)
def test_words_that_look_like_tuned_numbers_are(page):
    """Names with an underscore: tuned numbers, or names that the sources hold."""
    sources = "".join(path.read_text(encoding="utf-8") for path in (ROOT / "fastlstm").rglob("*.py"))
    named = [word for word in words(page) if re.fullmatch(r"[a-z]+(_[a-z]+)+", word)]
    assert [word for word in named if word not in NUMBERS and not re.search(rf"\b{word}\b", sources)] == []


def test_files_of_the_drawings_exist():
    drawings = "".join(re.findall(r"```text\n(.*?)```", DESIGN.read_text(encoding="utf-8"), re.DOTALL))
    named = re.findall(r"\b\w+/\w+\.py\b", drawings)
    assert len(named) >= 4
    assert [path for path in named if not exists(path)] == []


def test_the_architecture_is_one_page_with_two_drawings():
    text = DESIGN.read_text(encoding="utf-8")
    assert len(text.splitlines()) <= 120
    assert text.count("```text") == 2


def test_the_examples_of_extending_run_and_are_short():
    results = doctest.testfile(str(EXTENDING), module_relative=False, encoding="utf-8")
    assert results.attempted >= 40
    assert results.failed == 0
    examples = re.findall(r"```python\n(.*?)```", EXTENDING.read_text(encoding="utf-8"), re.DOTALL)
    assert len(examples) >= 9
    assert max(len(example.strip().splitlines()) for example in examples) <= 40


def test_the_examples_of_models_run():
    results = doctest.testfile(str(MODELS), module_relative=False, encoding="utf-8")
    assert results.attempted >= 30
    assert results.failed == 0
