"""The one style sheet of the book: rules that can apply, and icons that are shown."""

import shutil
from types import SimpleNamespace

import pytest
import style_sheet
from fontTools.ttLib import TTFont
from matplotlib import font_manager


def reduced(css, *words):
    return "".join(style_sheet.reduced(style_sheet.parsed(css), set(words)))


@pytest.mark.parametrize(
    ("css", "words", "expected"),
    [
        (".a{x:1}.b{x:2}", ["a"], ".a{x:1}"),
        (".a .b,.a>p{x:1}", ["a"], ".a>p{x:1}"),
        ("#a{x:1} #b{x:2}", ["b"], "#b{x:2}"),
        ("p:first-child,a[class*=b]{x:1}", [], "p:first-child,a[class*=b]{x:1}"),
        # An element may match these without having the class.
        ("p:not(.a){x:1}", [], "p:not(.a){x:1}"),
        (":is(.a,.b) p{x:1}", ["b"], ":is(.a,.b) p{x:1}"),
        ("@media print{.a{x:1}.b{x:2}}", ["b"], "@media print{.b{x:2}}"),
        ("@media print{.a{x:1}}", [], ""),
        ("@font-face{font-family:f}", [], "@font-face{font-family:f}"),
        ("/* a remark */p{x:1}/*! a license */", [], "p{x:1}/*! a license */"),
        (r".a\:b{x:1}", ["a:b"], r".a\:b{x:1}"),
        ('.a::before{content:"}/*.b{"}', ["a"], '.a::before{content:"}/*.b{"}'),
    ],
)
def test_a_rule_stays_if_something_can_have_its_classes_and_ids(css, words, expected):
    assert reduced(css, *words) == expected


def test_a_sheet_that_cannot_be_read_is_an_error():
    with pytest.raises(ValueError, match="line 2"):
        style_sheet.parsed("p{x:1}\n.a")


def test_imports_and_addresses_are_seen_from_the_folder_of_the_sheet(tmp_path):
    (tmp_path / "styles").mkdir()
    (tmp_path / "basic.css").write_text('p{background:url(p.png)} b{background:url("data:x")}')
    theme = tmp_path / "styles" / "theme.css"
    theme.write_text('@import "../basic.css";\ni{src:url(../f/i.woff2) format("woff2")}')
    assert style_sheet.whole(theme, tmp_path) == (
        'p{background:url("p.png")} b{background:url("data:x")}\n'
        'i{src:url("f/i.woff2") format("woff2")}'
    )


def test_icon_fonts_have_the_characters_of_the_sheet(tmp_path):
    shutil.copy(font_manager.findfont("DejaVu Sans"), tmp_path / "icons.ttf")
    css = '@font-face{src:url("icons.woff2") format("woff2"),url("icons.ttf")}i:before{content:"é"}'
    text = style_sheet.with_few_icons(css, tmp_path)
    assert text.startswith('@font-face{src:url("icons.woff") format("woff")}')
    with TTFont(tmp_path / "icons.woff") as font:
        characters = font.getBestCmap()
    assert ord("é") in characters
    assert ord("ö") not in characters
    assert (tmp_path / "icons.woff").stat().st_size < 20_000


PAGE = """<head><link rel="stylesheet" type="text/css" href="../_static/theme.css?v=1" />
<link rel="icon" href="../_static/a.svg"/>
<link rel="stylesheet" href="../_static/own.css" /></head><p class="used">"""


def build(tmp_path, **pages):
    static = tmp_path / "html" / "_static"
    static.mkdir(parents=True, exist_ok=True)
    (tmp_path / "_static").mkdir(exist_ok=True)
    for folder in (static, tmp_path / "_static"):
        (folder / "own.css").write_text(".by-us{x:1}")
    (static / "theme.css").write_text(".used{x:2}.unused{x:3}.by-us{x:4}.by-script{x:5}")
    (static / "all.js").write_text('element.classList.add("by-script")')
    for name, text in pages.items():
        (tmp_path / "html" / f"{name}.html").write_text(text)
    app = SimpleNamespace(
        builder=SimpleNamespace(name="html"), outdir=tmp_path / "html", srcdir=tmp_path
    )
    style_sheet.join_style_sheets(app, None)
    return (static / "book.css").read_text()


def test_a_page_has_one_sheet_in_place_of_several(tmp_path):
    sheet = build(tmp_path, page=PAGE)
    assert sheet.split() == [".used{x:2}", ".by-us{x:4}", ".by-script{x:5}", ".by-us{x:1}"]
    page = (tmp_path / "html" / "page.html").read_text()
    assert page.count("stylesheet") == 1
    assert page.startswith('<head><link rel="stylesheet" href="../_static/book.css?v=')
    assert '<link rel="icon" href="../_static/a.svg"/>' in page


def test_pages_of_an_earlier_build_get_the_sheet_that_is_new(tmp_path):
    build(tmp_path, old=PAGE)
    old = tmp_path / "html" / "old.html"
    before = old.read_text()
    assert ".unused" in build(tmp_path, new=PAGE.replace("used", "used unused"))
    assert old.read_text() != before
    assert old.read_text().count("stylesheet") == 1
