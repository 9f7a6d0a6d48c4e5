"""Reference pages: messages that are real, cards that hubs can read."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[1]


def source() -> str:
    """All code, with the text of broken strings made whole."""
    paths = [*ROOT.glob("geotree/**/*.py"), *ROOT.glob("geotree/**/*.js"),
             *ROOT.glob("book/*.py"), *ROOT.glob("tests/browser.py"),
             *ROOT.glob("tests/test_book.py"), ROOT / "Makefile"]
    text = "\n".join(path.read_text("utf-8") for path in paths)
    text = re.sub(r'["`] ?[+\\]?\s*\n\s*[fr]?["`]', "", text)
    return re.sub(r"\$?\{[^{}]*\}", "…", text)


def messages() -> list[str]:
    """What the page on trouble quotes in full."""
    page = (ROOT / "book/troubleshooting.md").read_text("utf-8")
    return re.findall(r"^`(.+)`$", page, re.MULTILINE)


def test_messages_of_the_page_on_trouble_are_those_of_the_code():
    text = source()
    assert len(messages()) > 12
    for message in messages():
        for part in message.split("…"):
            part = part.strip(" '()")
            assert part in text, f"nothing says '{part}' of '{message}'"


def test_glossary_is_in_order():
    page = (ROOT / "book/glossary.md").read_text("utf-8")
    words = re.findall(r"^(\w[^:\n]*)$", page, re.MULTILINE)
    assert len(words) > 25
    keys = [re.sub(r"[^a-z0-9 ]", "", word.lower()) for word in words]
    assert keys == sorted(keys)


@pytest.mark.parametrize("name", ["data-card", "model-card"])
def test_cards_begin_as_hubs_read_them(name):
    text = (ROOT / f"book/{name}.md").read_text("utf-8")
    head = yaml.safe_load(text.split("---")[1])
    assert head["license"] == "apache-2.0"
    assert "simulated" in head["tags"]
    wanted = ({"task_categories", "size_categories", "pretty_name"}
              if name == "data-card" else {"library_name", "pipeline_tag"})
    assert wanted <= set(head)
    for heading in ("Intended use", "Out of scope", "imits", "icen"):
        assert heading in text


def test_every_source_is_named_where_one_looks_how_to_cite():
    page = (ROOT / "book/cite.md").read_text("utf-8")
    for doi in ("10.5194/essd-18-1379-2026", "10.5281/zenodo.18619541",
                "10.15468/dd.9qxqyy"):
        assert doi in page


def test_every_public_module_is_described():
    page = "".join(path.read_text("utf-8") for path in
                   (ROOT / "book").glob("api*.md"))
    listed = set(re.findall(r"automodule:: (\S+)", page))
    assert {"geotree.explore", "geotree.plots", "geotree.globe"} <= listed
    for name in listed:
        path = ROOT / name.replace(".", "/")
        assert path.with_suffix(".py").exists() or (
            path / "__init__.py").exists(), f"{name} is gone"
