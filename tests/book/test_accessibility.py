"""Every page against the Web Content Accessibility Guidelines 2.1, A and AA, by axe-core.

axe-core finds what a program can find: contrast, names, roles, order, what the keyboard reaches.
Its program comes from the npm registry (tools/npm.py), once, and is kept in `_build`.
"""

import io
import sys
import tarfile
from pathlib import Path

import pytest
from test_site import PAGES, visit

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT / "tools"))

import npm  # noqa: E402

VERSION = "4.14.1"
PACKAGE_INTEGRITY = (
    "sha512-FHfa+lmNjQZfJz1q8wKqIDwC6DExcHt/pkjNQb09a3NPjCKg2rhu5qb2S4r76ASyFNNtuFooJpZe37Og"
    "udVGtQ=="
)
KEPT = ROOT / "_build" / f"axe-core-{VERSION}.tgz"

pytestmark = pytest.mark.book

RUN = """
const done = arguments[arguments.length - 1];
const tags = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa"];
axe.run({runOnly: tags, resultTypes: ["violations"]}).then(({violations}) => done(
    violations.filter(v => ["serious", "critical"].includes(v.impact)).flatMap(
        v => v.nodes.map(n => `${v.id}: ${n.target.join(" ")}: ${n.failureSummary}: ${n.html}`))));
"""
# Colours that fade are neither the old nor the new ones.
STAND_STILL = """
const style = document.createElement("style");
style.textContent = "*, ::before, ::after { transition: none !important }";
document.head.append(style);
"""


@pytest.fixture(scope="module")
def axe():
    try:
        if KEPT.is_file() and npm.integrity(KEPT.read_bytes(), "sha512") == PACKAGE_INTEGRITY:
            package = KEPT.read_bytes()
        else:
            package = npm.download("axe-core", VERSION, PACKAGE_INTEGRITY)
            part = KEPT.with_suffix(".part")
            part.write_bytes(package)
            part.replace(KEPT)
    except OSError as error:
        pytest.skip(f"axe-core cannot be fetched: {error}")
    with tarfile.open(fileobj=io.BytesIO(package)) as archive:
        return archive.extractfile("package/axe.min.js").read().decode()


def violations(browser, axe):
    browser.execute_script(STAND_STILL)
    browser.execute_script(axe)
    return browser.execute_async_script(RUN)


@pytest.mark.parametrize("page", PAGES)
@pytest.mark.parametrize(("width", "theme"), [(1280, "light"), (1280, "dark"), (390, "light")])
def test_page_has_no_serious_violation(browser, site, axe, page, width, theme):
    visit(browser, site, page, width, theme)
    assert violations(browser, axe) == []
