"""What a notebook keeps after it ran in Jupyter or Colab, and what viewers that sanitize show."""

import re

import pytest

nbclient, nbformat = pytest.importorskip("nbclient"), pytest.importorskip("nbformat")

VIEW = "application/vnd.jupyter.widget-view+json"
CELLS = {
    "figure": """
import torch
from cnnbook import data, models, plots, training, widgets
from cnnbook._progress import progress_bar
from cnnbook.tables import Table
plots.bars(["5×5", "3×3 twice"], torch.tensor([25, 18]), xlabel="weights")""",
    "drawing": "plots.architecture(models.lenet5(), (1, 32, 32))",
    "table": "Table([{'layer': 'C1', 'weights': 150}], caption='a title', notes=['a note'])",
    "explorer": """
def draw(n):
    return [plots.bars(["a"], torch.tensor([n]), xlabel="n"), f"n is {n}"]
widgets.explore(draw, n=[1, 2])""",
    "fit": """
train, test = data.load("digits")
net = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(64, 10))
_ = training.fit(net, train, test, epochs=2, device="cpu")""",
    "bar that stays": """
with progress_bar(3, desc="counting") as bar:
    for _ in range(3):
        bar.update()""",
}


@pytest.fixture(scope="module")
def ran():
    """Return a notebook after it ran, outside the book."""
    notebook = nbformat.v4.new_notebook(
        cells=[nbformat.v4.new_code_cell(source) for source in CELLS.values()]
    )
    with pytest.MonkeyPatch.context() as patch:
        for name in ("CNNBOOK_BOOK", "TQDM_DISABLE"):
            patch.delenv(name, raising=False)
        client = nbclient.NotebookClient(notebook, kernel_name="python3", store_widget_state=False)
        client.execute()
    return notebook


def outputs(notebook) -> dict[str, list]:
    return {name: cell.outputs for name, cell in zip(CELLS, notebook.cells, strict=True)}


@pytest.mark.slow
@pytest.mark.parametrize("name", ["figure", "drawing"])
def test_a_figure_is_one_bitmap_and_its_text(ran, name):
    (output,) = outputs(ran)[name]
    assert set(output.data) == {"image/png", "text/plain"}
    assert 0 < output.metadata["image/png"]["width"] <= 700


@pytest.mark.slow
def test_no_output_needs_a_style_a_script_or_svg(ran):
    for shown in outputs(ran).values():
        for output in shown:
            markup = output.get("data", {}).get("text/html", "")
            assert not re.search(r"<(svg|style|script|p|th)\b", markup)
            assert "image/svg+xml" not in output.get("data", {})


@pytest.mark.slow
def test_a_bitmap_stands_in_for_an_explorer(ran):
    *bars, output = outputs(ran)["explorer"]
    assert set(output.data) == {VIEW, "image/png", "text/plain"}
    assert [bar.data for bar in bars] in ([], [{"text/plain": ""}])


@pytest.mark.slow
def test_progress_leaves_no_widget_and_at_most_one_line(ran):
    shown = outputs(ran)
    assert [output.get("data") for output in shown["fit"]] == [{"text/plain": ""}]
    (stays,) = shown["bar that stays"]
    assert re.fullmatch(r"counting: 100%\|█+\| 3/3 \[.*\]", stays.data["text/plain"])
    assert set(stays.data) == {"text/plain"}


@pytest.mark.slow
def test_nbconvert_that_sanitizes_shows_pictures_and_no_source(ran):
    nbconvert = pytest.importorskip("nbconvert")
    page, _ = nbconvert.HTMLExporter(sanitize_html=True).from_notebook_node(ran)
    body = page[page.index("<body") :]
    assert len(re.findall(r'<img[^>]* src="data:image/png;base64,', body)) == 3
    seen = re.sub(r"<(style|script)\b.*?</\1>|<[^>]*>", " ", body, flags=re.S)
    # Around the rows of any table, nbconvert 7.17 shows the tags of a tbody that it adds itself.
    seen = re.sub(r"&lt;/?tbody&gt;", "", seen)
    assert not re.search(r"&lt;/?[a-z]|stroke|font-size|text-align", seen)
    for words in ("a title", "layer", "150", "a note"):
        assert words in seen
