"""Sphinx extension: links to what other projects document, without asking them for an inventory.

elsewhere.yml lists the few names that the package's signatures mention, and their pages.
"""

import functools
import importlib
from pathlib import Path

import yaml
from docutils import nodes
from sphinx.application import Sphinx

LIST = Path(__file__).with_name("elsewhere.yml")


def listed() -> dict[str, tuple[str, str]]:
    """Return the address and the project of every name that is listed."""
    projects = yaml.safe_load(LIST.read_text(encoding="utf-8"))
    return {
        name: (f"{content['url']}{page}#{name}", project)
        for project, content in projects.items()
        for page, names in content["pages"].items()
        for name in names
    }


def named(name: str) -> object:
    """Return the object with a public name, such as ``torch.nn.Module``."""
    module, _, attribute = name.rpartition(".")
    return getattr(importlib.import_module(module), attribute)


@functools.cache
def addresses() -> dict[str, tuple[str, str]]:
    """Return what :func:`listed` does, also by the names under which autodoc knows the objects.

    Those say where an object is defined: ``torch.nn.modules.module.Module``.
    """
    found = listed()
    for name, address in list(found.items()):
        value = named(name)
        found[f"{value.__module__}.{value.__qualname__}"] = address
    return found


def link_elsewhere(app, env, node, contnode) -> nodes.reference | None:
    """Link a name of another project to its page there.

    Cause: Sphinx 7.4.7 reads such addresses from the projects' inventories, which it fetches when
      it builds; this book is built without a network, too.
    Delete when: Python packages ship their inventories.
    """
    if node.get("refdomain") != "py" or node.get("reftarget") not in addresses():
        return None
    address, project = addresses()[node["reftarget"]]
    link = nodes.reference("", "", internal=False, refuri=address, reftitle=f"{project}’s page")
    link += contnode
    return link


def setup(app: Sphinx) -> dict[str, bool]:
    app.connect("missing-reference", link_elsewhere)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
