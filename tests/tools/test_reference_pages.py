"""What the build makes of the package: links to its source, its networks, commands and pictures."""

import html
import inspect
import re
from pathlib import Path

import pytest
import reference
from docutils import nodes

from cnnbook import experiments, models, plots
from cnnbook.cli.parser import build_parser

ROOT = Path(__file__).parents[2]
PACKAGE = ROOT / "chapters" / "reference" / "package"
HTML = ROOT / "_build" / "html" / "chapters" / "reference" / "package"


@pytest.mark.parametrize(
    ("module", "name", "file", "first"),
    [
        ("cnnbook.models", "VGG", "models/vgg.py", "class VGG("),
        ("cnnbook.models", "create", "models/registry.py", "def create("),
        ("cnnbook.plots", "Figure.axes", "plots/figure.py", "@property"),
    ],
)
def test_source_is_linked_with_its_lines(module, name, file, first):
    address = reference.source_address("py", {"module": module, "fullname": name})
    assert f"/blob/main/cnnbook/{file}#L" in address
    start, end = map(int, re.findall(r"L(\d+)", address.partition("#")[2]))
    lines = (ROOT / "cnnbook" / file).read_text().splitlines()
    assert lines[start - 1].strip().startswith(first)
    assert start < end <= len(lines)


def test_a_field_and_what_is_torchs_have_no_source_here():
    info = {"module": "cnnbook.models", "fullname": "ModelSpec.paper"}
    assert reference.source_address("py", info) is None
    assert reference.source_address("py", {"module": "torch", "fullname": "nn.Module"}) is None


def test_an_example_draws_what_is_shown():
    call = "bars(['a', 'b'], torch.tensor([1, 2]), xlabel='x').alt"
    docstring = f">>> import torch\n>>> {call}\n'?'\n"
    figure = reference.drawn_by("bars", docstring, "cnnbook.plots.results")
    assert figure.alt == "Bars, x: a 1; b 2."
    shown = reference.picture(figure)
    assert "\n" not in shown
    assert 'class="cnnbook-figure"' in shown
    assert reference.drawn_by("none", ">>> 1 + 1\n2\n", "cnnbook.plots.results") is None


def test_words_between_backticks_are_code():
    found = list(reference.with_literals("a `b c` d"))
    assert [node.astext() for node in found] == ["a ", "b c", " d"]
    assert [isinstance(node, nodes.literal) for node in found] == [False, True, False]
    assert [node.astext() for node in reference.with_literals("if all --epochs were")] == [
        *("if all ", "--epochs", " were")
    ]


def test_a_default_that_is_no_expression_is_a_name_or_an_ellipsis():
    signature = "(a: ~x.Y = <factory>, b: ~x.Z = <function cross_entropy>, c=<function E.<lambda>>)"
    shown, returned = reference.show_defaults(None, "class", "E", None, None, signature, "int")
    assert shown == "(a: ~x.Y = ..., b: ~x.Z = cross_entropy, c=...)"
    assert returned == "int"
    assert reference.show_defaults(None, "class", "E", None, None, "(a=1)", None) is None


def test_the_default_of_a_field_is_no_method():
    skips = {
        f"{cls.__name__}.{name}"
        for cls in (experiments.Experiment, models.ModelSpec, models.Weights)
        for name, value in vars(cls).items()
        if reference.leave_out_defaults(None, "class", name, value, False, None)
    }
    assert skips == {
        *("Experiment.cost", "Experiment.images", "Experiment.notes"),
        *("ModelSpec.loss", "Weights.read_classes"),
    }


def test_the_table_of_networks_has_the_published_accuracy():
    assert reference.top1("efficientnet_lite0") == "75.1"
    assert reference.top1("lenet5") == ""


def test_every_command_is_on_its_page():
    listed = re.findall(r"^```\{command\} ?(\w*)$", (PACKAGE / "command-line.md").read_text(), re.M)
    (commands,) = (a for a in build_parser()._actions if a.dest == "command")
    assert listed == ["", *commands.choices]


@pytest.mark.book
def test_every_option_is_on_the_page():
    text = (HTML / "command-line.html").read_text()
    shown = set(re.findall(r"--[a-z][\w-]+", text))
    (commands,) = (a for a in build_parser()._actions if a.dest == "command")
    for parser in (build_parser(), *commands.choices.values()):
        options = {o for a in parser._actions for o in a.option_strings if o.startswith("--")}
        assert options - {"--help"} <= shown


@pytest.mark.book
def test_every_network_is_in_the_table():
    text = (HTML / "models.html").read_text()
    rows = re.findall(r"<tr class=\"row-(?:odd|even)\"><td>(.*?)</tr>", text, flags=re.S)
    whole = [re.sub(r"<wbr ?/?>", "", row) for row in rows]
    plain = [html.unescape(re.sub(r"<.*?>", " ", row)) for row in whole]
    table = [" ".join(row.split()) for row in plain]
    for name in models.list_models():
        paper = models.model_spec(name).paper
        assert any(row.startswith(f"{name} {paper} ") for row in table), name
    assert any("138,357,544 15,470,264,320" in row for row in table)  # VGG-16


@pytest.mark.book
@pytest.mark.parametrize("name", [n for n in plots.__all__ if inspect.isfunction(vars(plots)[n])])
def test_every_function_that_draws_has_a_picture(name):
    text = (HTML / "plots.html").read_text()
    _, _, after = text.partition(f'id="cnnbook.plots.{name}"')
    entry, _, _ = after.partition('id="cnnbook.plots.')
    assert '<figure class="cnnbook-figure"' in entry
    assert "[source]" in entry


@pytest.mark.book
def test_parameters_that_are_explained_together_stand_together():
    text = (HTML / "more.html").read_text()
    assert "<strong>value, unit</strong>" in text
    for page in HTML.glob("*.html"):
        assert not re.search(r"\(<em>\w+,</em>\)", page.read_text()), page.name


@pytest.mark.book
def test_names_of_other_projects_are_linked():
    text = (HTML / "training.html").read_text()
    for name in ("torch.Tensor", "torch.nn.Module", "collections.abc.Callable"):
        assert re.search(rf'href="https://docs\.p\w+\.org/\S+#{re.escape(name)}"', text), name
