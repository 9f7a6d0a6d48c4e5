"""The first use of a glossary term on a page leads to its entry."""

import importlib.util
import re
from io import StringIO
from pathlib import Path
from types import SimpleNamespace

import jupytext
import pytest
from docutils import nodes
from docutils.utils import new_document
from sphinx.application import Sphinx

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="module")
def terms():
    spec = importlib.util.spec_from_file_location(
        "terms", ROOT / "book" / "_ext" / "terms.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def app(terms):
    found = SimpleNamespace(srcdir=ROOT, env=SimpleNamespace(
        docname="notebooks/06-zero-shot"))
    terms._read_terms(found)
    return found


def page(*parts):
    document = new_document("page")
    document += nodes.title("", "A shard in a title")
    document += [nodes.paragraph("", "", *part) for part in parts]
    return document


def linked(document):
    return [(one["reftarget"], one.astext()) for one in document.findall(
        lambda node: node.tagname == "pending_xref")]


def test_the_first_use_alone_is_linked(terms, app):
    document = page([nodes.Text("Two shards hold a cube; a shard is a tar.")],
                    [nodes.Text("The range prior, then the prior. SHARD")])
    terms._link(app, document)
    assert linked(document) == [("shard", "shards"), ("cube", "cube"),
                                ("range prior", "range prior"),
                                ("prior", "prior")]
    assert document.astext().count("shard") == 3  # nothing is lost


def test_pages_are_read_anew_when_a_term_has_another_name(tmp_path):
    (tmp_path / "book").mkdir()
    (tmp_path / "index.md").write_text("# Page\n\nOf cubes.\n")
    (tmp_path / "conf.py").write_text(
        f"import sys; sys.path.insert(0, {str(ROOT / 'book/_ext')!r})\n"
        "extensions = ['myst_parser', 'terms']\n")
    for name in ("cube", "cubes of pixels"):
        (tmp_path / "book/glossary.md").write_text(
            "# Terms\n\n```{glossary}\n:sorted:\n\n"
            f"{name}\n  Pixels.\n```\n")
        said = StringIO()
        Sphinx(tmp_path, tmp_path, tmp_path / name, tmp_path / "trees",
               "html", status=None, warning=said).build()
        assert "not in glossary" not in said.getvalue()
        shown = (tmp_path / name / "index.html").read_text("utf-8")
        assert ("glossary.html#term" in shown) == (name == "cube")


def test_an_emphasised_term_is_linked_too(terms, app):
    document = page([nodes.emphasis("", "ECE"), nodes.Text(" is a mean.")],
                    [nodes.Text("So many EECU-hours, and ECE again.")])
    terms._link(app, document)
    assert linked(document) == [("ECE", "ECE"), ("EECU-hour", "EECU-hours")]


def test_code_links_and_other_words_stay(terms, app):
    document = page([nodes.literal("", "shard"), nodes.Text(" sharded "),
                     nodes.reference("", "cube")])
    document += nodes.literal_block("", "prior")
    terms._link(app, document)
    assert linked(document) == []


def test_every_entry_of_the_glossary_is_a_term(app):
    text = (ROOT / "book" / "glossary.md").read_text("utf-8")
    entries = [line for line in text.splitlines()[3:]
               if line and not line.startswith((" ", ":"))]
    assert set(entries) == set(app.env.glossary_terms)


# A level of intervals, a promise of sets, or an example: nothing measured.
CHOSEN = {"70", "80", "90", "95", "99"}


def prose(path):
    """A page without its code, outputs and head."""
    text = path.read_text("utf-8")
    if path.suffix == ".py":
        text = "\n\n".join(
            cell.source for cell in jupytext.reads(text, "py:percent").cells
            if cell.cell_type == "markdown")
    elif text.startswith("---"):
        text = text.split("---", 2)[2]
    return re.sub(r"```.*?```|`[^`]*`", "", text, flags=re.DOTALL)


def test_no_line_of_prose_is_lost_as_a_comment():
    """A page leaves out a line that begins with a per cent sign."""
    for folder, ending in (("notebooks", "py"), ("book", "md")):
        for path in (ROOT / folder).glob(f"*.{ending}"):
            assert not re.findall(r"^\s*%.*", prose(path), re.MULTILINE), path


@pytest.mark.parametrize("path", sorted(
    [*(ROOT / "notebooks").glob("*.py"), *(ROOT / "book").glob("*.md"),
     ROOT / "README.md"]), ids=lambda path: path.stem)
def test_no_result_is_typed_into_prose(path):
    """The data change, and a typed percentage stays: compute it."""
    text = " ".join(prose(path).split())
    typed = [found[0] for found in re.finditer(
        r"(\d[\d.,]*) ?(?:%|percent\b|points?\b)", text)
        if found[1] not in CHOSEN]
    assert not typed
