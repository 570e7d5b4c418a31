"""Sphinx extension: what readers expect of a reference, made from the package when it is built.

Links from every function to its source; the table of networks; the options of the command line; and
below the example of each function that draws, the picture that the example makes.

The docstring of every function that is connected to Sphinx says whose behavior it works around and
when it can be deleted.
"""

import argparse
import contextlib
import doctest
import importlib
import inspect
import io
import re
from collections.abc import Iterator
from pathlib import Path

import torch
import yaml
from docutils import nodes
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective

from cnnbook.cli.listings import models_table
from cnnbook.cli.parser import build_parser
from cnnbook.models import model_spec
from cnnbook.plots import Figure

ROOT = Path(__file__).parents[2]
USAGE_WIDTH = 66  # characters


def source_address(domain: str, info: dict[str, str]) -> str | None:
    """Return where the source of a documented object is shown, with its lines."""
    value = importlib.import_module(info["module"])
    for name in info["fullname"].split("."):
        value = getattr(value, name, None)
    value = inspect.unwrap(getattr(value, "fget", None) or value) if value is not None else None
    try:
        file = Path(inspect.getsourcefile(value)).resolve()
        lines, first = inspect.getsourcelines(value)
    except (OSError, TypeError):  # a field, or a constant
        return None
    if not file.is_relative_to(ROOT / "cnnbook"):
        return None  # inherited from torch, say
    repository = yaml.safe_load((ROOT / "_config.yml").read_text(encoding="utf-8"))["repository"]
    where = f"{repository['url']}/blob/{repository['branch']}/{file.relative_to(ROOT).as_posix()}"
    return f"{where}#L{first}-L{first + len(lines) - 1}"


def link_source(app: Sphinx, config) -> None:
    """Tell Sphinx's own extension for links to source code where that is.

    Cause: jupyter-book 1.0.4.post1 has no place for a function in its settings; Sphinx's linkcode
      needs one.
    Delete when: conf.py lists the settings itself (CONTRIBUTING, Leaving Jupyter Book 1.x).
    """
    config.linkcode_resolve = source_address


def drawn_by(name: str, docstring: str, module: str) -> Figure | None:
    """Run the example of a docstring; return the figure it makes, the last of several."""
    made: list[Figure] = []
    namespace = dict(vars(importlib.import_module(module)))
    create = Figure.__init__

    def noted(self: Figure, *args: object, **kwargs: object) -> None:
        create(self, *args, **kwargs)
        made.append(self)

    torch.manual_seed(0)
    Figure.__init__ = noted
    try:
        with contextlib.redirect_stdout(io.StringIO()):
            for example in doctest.DocTestParser().get_examples(docstring):
                exec(compile(example.source, name, "single"), namespace)
    finally:
        Figure.__init__ = create
    return made[-1] if made else None


def picture(figure: Figure) -> str:
    """Return a figure as one line of HTML, without what a page need not know."""
    return re.sub(r"\s*\n\s*", " ", re.sub(r"<!--.*?-->", "", figure.html(), flags=re.S))


def show_examples(app, what, name, value, options, lines) -> None:
    """Show below the example of a function that draws what the example draws.

    Cause: Sphinx 7.4.7 shows examples as text; matplotlib's plot directive runs them, but writes
      bitmaps on white.
    Delete when: matplotlib.sphinxext.plot_directive writes SVG in the color of the page.
    """
    if what != "function" or not name.startswith("cnnbook.plots.") or name.count(".") != 2:
        return
    figure = drawn_by(name, inspect.getdoc(value) or "", value.__module__)
    if figure is not None:
        lines += ["", ".. raw:: html", "", f"   {picture(figure)}", ""]


def show_defaults(app, what, name, value, options, signature, returned) -> tuple | None:
    """Write defaults that are no expressions as names, or as an ellipsis.

    Cause: Sphinx 7.4.7 cannot parse a signature that contains ``<factory>`` or ``<function f>``,
      as those of data classes do, and prints ``~collections.abc.Callable`` with its tilde.
    Delete when: autodoc writes such defaults so that Sphinx can read them.
    """
    if signature and "<" in signature:
        signature = re.sub(r"<function (\w+)>", r"\1", signature)
        return re.sub(r"<(factory|function [\w.]+<lambda>)>", "...", signature), returned
    return None


def leave_out_defaults(app, what, name, value, skip, options) -> bool | None:
    """Leave out what would be a method: the function that is a field's default.

    Cause: Sphinx 7.4.7 documents the attributes of a class, and a data class keeps there the
      default of a field.
    Delete when: autodoc knows the fields of data classes.
    """
    if what == "class" and inspect.isfunction(value) and value.__name__ != name:
        return True
    return None


Cell = list[nodes.Node]


def table(headings: list[str], rows: list[list[Cell]], numbers: set[int]) -> nodes.table:
    """Return a table of cells of nodes; the columns in `numbers` are aligned to the right."""
    group = nodes.tgroup(cols=len(headings))
    group += [nodes.colspec(colwidth=1) for _ in headings]

    def row(cells: list[Cell]) -> nodes.row:
        entries = [
            nodes.entry(
                "", nodes.paragraph("", "", *cell), classes=["text-right"] if i in numbers else []
            )
            for i, cell in enumerate(cells)
        ]
        return nodes.row("", *entries)

    group += nodes.thead("", row([[nodes.Text(heading)] for heading in headings]))
    group += nodes.tbody("", *map(row, rows))
    return nodes.table("", group, classes=["colwidths-auto"])


def top1(name: str) -> str:
    """Return the accuracy of a network's ImageNet weights in percent, if there are any."""
    weights = model_spec(name).weights.get("imagenet")
    return f"{100 * weights.accuracy['top1']:.1f}" if weights else ""


class ModelTable(SphinxDirective):
    """The networks of the registry, with what they cost."""

    def run(self) -> list[nodes.Node]:
        """Return the table."""
        rows = [
            [
                [nodes.literal("", row["name"])],
                [nodes.Text(row["paper"])],
                [nodes.Text(row["input"])],
                [nodes.Text(f"{row['parameters']:,}")],
                [nodes.Text(f"{row['macs']:,}")],
                [nodes.Text(top1(row["name"]))],
            ]
            for row in models_table().rows
        ]
        headings = ["name", "paper", "input", "parameters", "MACs", "top-1 (%)"]
        shown = table(headings, rows, {3, 4, 5})
        shown["classes"].append("cnnbook-models")
        return [shown]


def with_literals(text: str) -> Iterator[nodes.Node]:
    """Yield text, with options and what stands between backticks as code."""
    for i, part in enumerate(re.split(r"`([^`]*)`|(?<![\w-])(--[a-z][a-z-]*)", text)):
        if part:
            yield nodes.literal("", part) if i % 3 else nodes.Text(part)


class Command(SphinxDirective):
    """What ``cnnbook COMMAND --help`` says; without a name, what ``cnnbook --help`` says."""

    optional_arguments = 1

    def run(self) -> list[nodes.Node]:
        """Return what a command does, its usage, its options and examples."""
        parser = build_parser()
        if self.arguments:
            parser = parser.command(self.arguments[0])
        formatter = parser.formatter_class(parser.prog, width=USAGE_WIDTH)
        formatter.add_usage(parser.usage, parser._actions, parser._mutually_exclusive_groups)
        usage = formatter.format_help().strip()
        found: list[nodes.Node] = []
        if self.arguments:
            for text in (parser.description or "").split("\n\n"):
                found.append(nodes.paragraph("", "", *with_literals(" ".join(text.split()))))
        found.append(nodes.literal_block(usage, usage, language="text"))
        options = nodes.definition_list(classes=["cnnbook-options"])
        for action in parser._actions:
            if action.help == argparse.SUPPRESS or isinstance(action, argparse._HelpAction):
                continue
            for each in self.of_group(action):
                invocation = formatter._format_action_invocation(each)
                text = formatter._expand_help(each) if each.help else ""
                options += nodes.definition_list_item(
                    "",
                    nodes.term("", "", nodes.literal("", invocation)),
                    nodes.definition("", nodes.paragraph("", "", *with_literals(text))),
                )
        found.append(options)
        if parser.epilog and self.arguments:
            title, _, examples = parser.epilog.partition("\n")
            examples = inspect.cleandoc(examples)
            found.append(nodes.paragraph("", title.capitalize()))
            found.append(nodes.literal_block(examples, examples, language="text"))
        return found

    @staticmethod
    def of_group(action: argparse.Action) -> list[argparse.Action]:
        """Return an option itself, or the commands that stand behind the word COMMAND."""
        if isinstance(action, argparse._SubParsersAction):
            return list(action._choices_actions)
        return [action]


def setup(app: Sphinx) -> dict[str, bool]:
    app.connect("config-inited", link_source)
    app.connect("autodoc-process-docstring", show_examples, priority=600)  # after napoleon
    app.connect("autodoc-process-signature", show_defaults)
    app.connect("autodoc-skip-member", leave_out_defaults)
    app.add_directive("model-table", ModelTable)
    app.add_directive("command", Command)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
