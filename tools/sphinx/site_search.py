"""Sphinx extension: a search that knows the glossary, ranks chapters first, and forgives.

Every section of the book becomes one document. Terms and their synonyms, English and Korean, are
those of the glossary's entries, and the section that an entry names is what the search prefers for
that term; `search.yml` adds what readers type and nobody prints. A page loads a small script
(search.js); the search library, the ranking (search-engine.js) and the documents come when a reader
first searches.

The search library is MiniSearch, from the npm registry (npm.py), pinned by checksum. If it cannot
be fetched, the book keeps Sphinx's own search.

The docstring of every function that is connected to Sphinx says whose behavior it works around and
when it can be deleted.
"""

import hashlib
import html
import io
import json
import re
import shutil
import tarfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import npm
import yaml
from docutils import nodes
from pages import kind, rewrite
from sphinx import addnodes
from sphinx.application import Sphinx
from sphinx.search.en import english_stopwords, js_porter_stemmer
from sphinx.util import logging

logger = logging.getLogger(__name__)

HERE = Path(__file__).parent
WORDS = HERE / "search.yml"

VERSION = "7.2.0"
PACKAGE_INTEGRITY = (
    "sha512-dqT2XBYUOZOiC5t2HRnwADjhNS2cecp9u+TJRiJ1Qp/f5qjkeT5APcGPjHw+bz89Ms8Jp+cG4AlE"
    "+QZ/QnDglg=="
)
IN_PACKAGE = ("package/dist/umd/index.js", "package/LICENSE.txt")

LONGEST_OUTPUT = 2000  # characters of one cell's output: the start of a table names its columns
SHORT = re.compile(r"[^\\{}^_]{1,20}")
# What no reader searches for.
SILENT = (nodes.math_block, nodes.comment, nodes.substitution_definition)
SPHINX_SCRIPTS = re.compile(
    r'<script (?:defer )?src="[^"]*(?:searchtools|language_data|searchindex)\.js[^"]*"></script>\n?'
)
OWN_SCRIPT = re.compile(
    r'(<script\b[^>]* src="[^"]*_static/search\.js[^"]*")(?: data-files="[^"]*")?'
)
TAG = re.compile(r"<(style|script|defs|math)\b.*?</\1>|<[^>]*>", re.S)
CODE_WORD = re.compile(r"[^\W\d]\w+|\d[\d.,]*\d")
LABEL = re.compile(r'aria-label="([^"]*)"')


@dataclass
class Section:
    """One heading and what stands below it, up to the next one."""

    anchor: str
    heading: str
    text: list[str] = field(default_factory=list)
    code: list[str] = field(default_factory=list)


def plain(fragment: str) -> str:
    """Return the words of HTML, and what its pictures say of themselves."""
    labels = " ".join(LABEL.findall(fragment))
    return html.unescape(f"{labels} {TAG.sub(' ', fragment)}")


def output(bundle: nodes.container) -> str:
    """Return the words of one output: a widget's are those of its picture."""
    forms = {form.get("mime_type"): form for form in bundle.children}
    form = forms.get("text/html") or forms.get("text/plain")
    return plain(form.astext()) if form is not None else ""


def text_of(node: nodes.Node) -> str:
    """Return what a reader sees of a node; of formulas, only what reads as text does: n, F(x)."""
    if isinstance(node, nodes.Text):
        return str(node)
    if isinstance(node, nodes.math):
        formula = node.astext()
        return formula if SHORT.fullmatch(formula) else "…"
    if isinstance(node, SILENT):
        return ""
    blank = "" if isinstance(node, nodes.TextElement) else " "
    return blank.join(text_of(child) for child in node.children)


def leads_to(definition: nodes.definition) -> str:
    """Return the address of another entry, if a definition only says “See …”."""
    link = definition.next_node(nodes.reference)
    return link["refid"] if link and definition.astext() == f"See {link.astext()}." else ""


def gather(node: nodes.Element, section: Section, found: list[Section]) -> None:
    """Sort what is in a node into sections; deeper ones are added to those found."""
    for child in node.children:
        if isinstance(child, nodes.section):
            deeper = Section(child["ids"][0], text_of(child[0]) if len(child) else "")
            found.append(deeper)
            gather(child, deeper, found)
        elif isinstance(child, addnodes.desc):
            signature = child[0]
            ids = signature.get("ids")
            name = f"{signature.get('module', '')}.{signature.get('fullname', '')}".strip(".")
            deeper = Section(ids[0], name) if ids else section
            if ids:
                found.append(deeper)
            gather(child[-1], deeper, found)
        elif isinstance(child, addnodes.glossary):
            for item in child.findall(nodes.definition_list_item):
                term = item.next_node(nodes.term)
                definition = item.next_node(nodes.definition)
                if leads_to(definition):
                    continue  # another name of an entry that is found by it
                found.append(Section(term["ids"][0], text_of(term), [text_of(definition)]))
        elif isinstance(child, nodes.Element) and child.get("nb_element") == "cell_code_source":
            section.code.append(child.astext())
        elif isinstance(child, nodes.Element) and child.get("nb_element") == "cell_code_output":
            for part in child.children:
                is_bundle = part.get("nb_element") == "mime_bundle"
                said = output(part) if is_bundle else part.astext()
                section.code.append(said[:LONGEST_OUTPUT])
        elif isinstance(child, nodes.literal_block):
            section.code.append(child.astext())
        elif isinstance(child, nodes.container):
            gather(child, section, found)
        elif not isinstance(child, (nodes.title, nodes.raw)):
            section.text.append(text_of(child))


def sections(doctree: nodes.document) -> list[Section]:
    """Return the sections of a page; the first is the page itself, up to its first heading."""
    found: list[Section] = []
    gather(doctree, Section("", ""), found)
    if found:
        found[0].anchor = ""
    return found


@dataclass
class Term:
    """What a glossary says of one thing: its names, and the sections that explain it."""

    names: list[str]
    same_as: str = ""
    places: list[tuple[str, str]] = field(default_factory=list)  # page and address of a section


def terms(doctree: nodes.document) -> dict[str, Term]:
    """Return the terms of a glossary by the address of their entries."""
    found: dict[str, Term] = {}
    for item in doctree.findall(nodes.definition_list_item):
        term = item.next_node(nodes.term)
        definition = item.next_node(nodes.definition)
        english, _, others = text_of(term).strip().partition(" (")
        names = [english, *(name.strip() for name in others.removesuffix(")").split(",") if name)]
        entry = Term(names, same_as=leads_to(definition))
        for link in definition.findall(addnodes.pending_xref):
            entry.places.append((link["reftarget"], link.get("reftargetid") or ""))
        found[term["ids"][0]] = entry
    return found


def merged(found: dict[str, Term], more: dict[str, list[str]]) -> list[Term]:
    """Return one term for each thing: entries that say “See …”, and `more` names, are added.

    A name in `more` that is itself an entry makes the two entries one.
    """
    by_name = {term.names[0]: address for address, term in found.items()}
    extra: dict[str, list[str]] = {}
    for name, others in more.items():
        if name not in by_name:
            raise ValueError(f"{WORDS.name}: the glossary has no entry “{name}”")
        for other in others:
            if other in by_name and by_name[other] != by_name[name]:
                found[by_name[other]].same_as = by_name[name]
            else:
                extra.setdefault(by_name[name], []).append(other)
    for address, term in found.items():
        if term.same_as:
            found[term.same_as].names += term.names
        found[term.same_as or address].names += extra.get(address, [])
    return [term for term in found.values() if not term.same_as]


def documents(app: Sphinx) -> dict[str, list]:
    """Return what the search knows: pages, their sections, and the terms of the glossary."""
    env, pages, rows, where, glossary = app.env, [], [], {}, {}
    for page in sorted(env.found_docs):
        doctree = env.get_doctree(page)
        title = text_of(env.titles[page])
        pages.append([app.builder.get_target_uri(page), title, kind(page)])
        for section in sections(doctree):
            where[page, section.anchor] = len(rows)
            text = re.sub(r"\s+", " ", " ".join(section.text)).strip()
            # Of code, a search needs to know which words are in it.
            code = " ".join(dict.fromkeys(CODE_WORD.findall(" ".join(section.code))))
            rows.append([len(pages) - 1, section.anchor, section.heading, text, code])
        if kind(page) == "glossary":
            glossary |= terms(doctree)
    known = []
    # A book that is built without its glossary, as in tests, has none of its names.
    more = yaml.safe_load(WORDS.read_text(encoding="utf-8")) if glossary else {}
    for term in merged(glossary, more):
        places = []
        for page, address in term.places:
            slugs = env.metadata[page].get("myst_slugs", {})
            anchor = slugs[address][1] if address in slugs else address
            if (page, anchor) in where:
                places.append(where[page, anchor])
        known.append([term.names, places])
    return {"pages": pages, "sections": rows, "terms": known}


def library(folder: Path) -> str:
    """Return the search library with its license; its package is kept in a folder.

    Raises
    ------
    OSError, ValueError
        If it cannot be downloaded, or is not what was published.
    """
    kept = folder / f"minisearch-{VERSION}.tgz"
    if kept.is_file() and npm.integrity(kept.read_bytes(), "sha512") == PACKAGE_INTEGRITY:
        package = kept.read_bytes()
    else:
        package = npm.download("minisearch", VERSION, PACKAGE_INTEGRITY)
        folder.mkdir(parents=True, exist_ok=True)
        part = kept.with_suffix(".part")
        part.write_bytes(package)
        part.replace(kept)
    with tarfile.open(fileobj=io.BytesIO(package)) as archive:
        script, license_ = (archive.extractfile(name).read().decode() for name in IN_PACKAGE)
    # The package's map of its source is not served.
    script = re.sub(r"(?m)^//# sourceMappingURL=.*\n?", "", script)
    return f"/* MiniSearch {VERSION}\n\n{license_}*/\n{script}"


def choose_search(app: Sphinx) -> None:
    """Put this search in the place of Sphinx's, unless its library cannot be had.

    Cause: sphinx 7.4.7 looks for whole words, all of them, in pages: nothing for “1x1
      convolution”, “pretrained” or a Korean word, and a list of claims ranks above a chapter.
    Delete when: Sphinx's search takes synonyms and a weight for each page.
    """
    app.search_library = ""
    if app.builder.name != "html":
        return
    try:
        app.search_library = library(Path(app.outdir).parent)
    except (OSError, ValueError) as error:
        logger.info(
            "The book keeps Sphinx's own search, for MiniSearch is not to be had: %s", error
        )
        return
    app.builder.search = False  # makes no index of its own
    static = Path(app.outdir) / "_static"
    static.mkdir(parents=True, exist_ok=True)
    shutil.copy(HERE / "search.js", static)
    app.add_js_file("search.js", loading_method="defer")


def add_search_page(app: Sphinx) -> Iterator[tuple[str, dict, str]]:
    """Keep the page of results, to which forms lead and which can be linked.

    Cause: sphinx 7.4.7 writes it only together with its own index.
    Delete when: choose_search is deleted.
    """
    if app.search_library:
        yield "search", {}, "search.html"


def write_search(app: Sphinx, exception: Exception | None) -> None:
    """Write what a page loads for the first search, and take Sphinx's scripts off the pages.

    Each file's address has a hash of its content: a browser keeps what it has until that changes.
    The addresses are in the pages, not in search.js, whose own is made before there are documents.

    Cause: pydata-sphinx-theme 0.17.1 loads them in the head of every page, whoever searches.
    Delete when: its layout.html leaves them out where Sphinx makes no index.
    """
    if exception or not app.search_library:
        return
    static = Path(app.outdir) / "_static"
    data = json.dumps(documents(app), ensure_ascii=False, separators=(",", ":"))
    words = json.dumps(sorted(english_stopwords))
    files = {
        # A script, not JSON: pages opened as files may not fetch.
        "search-data.js": f"window.cnnbookSearchData={data};\n",
        "search-stem.js": (
            f"{js_porter_stemmer}\nwindow.cnnbookStemmer=Stemmer;window.cnnbookStop={words};\n"
        ),
        "minisearch.js": app.search_library,
        "search-engine.js": (HERE / "search-engine.js").read_text(encoding="utf-8"),
    }
    for name, text in files.items():
        (static / name).write_text(text, encoding="utf-8")
    (Path(app.outdir) / "searchindex.js").unlink(missing_ok=True)
    addresses = " ".join(f"{name}?v={version(text)}" for name, text in files.items())

    def with_addresses(page: str, _path: Path) -> str:
        page = SPHINX_SCRIPTS.sub("", page)
        return OWN_SCRIPT.sub(rf'\1 data-files="{addresses}"', page)

    rewrite(app, exception, with_addresses)


def version(text: str) -> str:
    """Return a short hash of a file's text, for its address."""
    return hashlib.sha256(text.encode()).hexdigest()[:8]


def setup(app: Sphinx) -> dict[str, bool]:
    app.connect("builder-inited", choose_search)
    app.connect("html-collect-pages", add_search_page)
    app.connect("build-finished", write_search)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
