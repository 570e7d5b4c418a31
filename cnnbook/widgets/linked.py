"""The widgets of an explorer: selectors, and the pictures they choose from.

Only this module of the package imports ipywidgets.
"""

import html
from collections.abc import Mapping, Sequence
from itertools import product
from typing import Any

import ipywidgets

from cnnbook._notebook import in_book
from cnnbook.plots.figure import shown_as_png
from cnnbook.widgets.still import still_png

VIEW = "application/vnd.jupyter.widget-view+json"


class Explorer(ipywidgets.VBox):
    """Selectors linked to the pictures of all their states.

    The links run in the reader's browser: in Jupyter, in a saved notebook, and on a static page
    without a kernel. ipywidgets 7, which Colab uses, lacks the widget they need; there, the kernel
    changes the picture.

    Parameters
    ----------
    labels
        Name of each selector to the labels of its choices.
    kinds
        Name of each selector to ``"slider"``, ``"toggle"`` or ``"dropdown"``.
    first
        Index of each selector's initial choice.
    pictures
        HTML of each state, by the indices of its choices. Equal ones are stored once.
    shared
        HTML the pictures refer to, always present.
    still
        HTML of the first state alone, for readers without JavaScript or widgets.
    result
        What was drawn for the first state: its figures, texts and tables.
    """

    # ipywidgets 7 displays a widget by this method, without a picture that stands in for it.
    _ipython_display_ = None

    def __init__(
        self,
        labels: Mapping[str, Sequence[str]],
        kinds: Mapping[str, str],
        first: Sequence[int],
        pictures: Mapping[tuple[int, ...], str],
        shared: str,
        still: str,
        result: object,
    ):
        self.selectors: dict[str, Any] = {
            name: _selector(name, labels[name], kinds[name], index, labels)
            for name, index in zip(labels, first, strict=True)
        }
        self._pictures = pictures
        self._still = still
        self._first = {name: labels[name][i] for name, i in zip(labels, first, strict=True)}
        self._result = result
        # Layout and style are widgets too, of a kilobyte each; one serves all pictures.
        wide = ipywidgets.Layout(width="100%", margin="0")
        sheet = ipywidgets.HTML(shared, layout=wide)
        common = {"layout": wide, "style": sheet.style}
        if hasattr(ipywidgets, "Stack"):
            leaves = {text: ipywidgets.HTML(text, **common) for text in set(pictures.values())}
            shown = self._stack((), leaves, wide)
        else:
            shown = ipywidgets.HTML(pictures[tuple(first)], **common)
            for selector in self.selectors.values():
                selector.observe(lambda _: self._exchange(shown), "index")
        super().__init__(
            [*self.selectors.values(), sheet, shown],
            layout=ipywidgets.Layout(width="100%", overflow="hidden"),
        )
        self.add_class("cnnbook-explorer")

    def _stack(self, chosen: tuple[int, ...], leaves: dict, layout) -> ipywidgets.Widget:
        """Return the picture of a state, or the stack that chooses on behalf of a selector."""
        if len(chosen) == len(self.selectors):
            return leaves[self._pictures[chosen]]
        selector = list(self.selectors.values())[len(chosen)]
        below = [self._stack((*chosen, i), leaves, layout) for i in range(len(selector.options))]
        stack = ipywidgets.Stack(below, selected_index=selector.index, layout=layout)
        ipywidgets.jslink((selector, "index"), (stack, "selected_index"))
        return stack

    def _exchange(self, shown: ipywidgets.HTML) -> None:
        shown.value = self._pictures[tuple(s.index for s in self.selectors.values())]

    def states(self) -> list[dict[str, str]]:
        """Return the label of every choice, for each state, in the order they were drawn."""
        choices = [[(name, label) for label in s.options] for name, s in self.selectors.items()]
        return [dict(state) for state in product(*choices)]

    def _repr_mimebundle_(
        self, include: object = None, exclude: object = None, **_options: object
    ) -> tuple[dict[str, Any], dict[str, Any]]:
        # Behind the widget comes what is shown where there are none, in a copy on GitHub, say.
        data: dict[str, Any] = {"text/html": self._still, "text/plain": repr(self)}
        metadata: dict[str, Any] = {}
        if not in_book():
            data, metadata = shown_as_png(still_png(self._first, self._result), repr(self))
        view = {"version_major": 2, "version_minor": 0, "model_id": self.model_id}
        return {VIEW: view, **data}, metadata

    def __repr__(self) -> str:
        sizes = ", ".join(f"{name}: {len(s.options)}" for name, s in self.selectors.items())
        return f"<Explorer of {len(self._pictures)} states ({sizes})>"


def _selector(
    name: str, labels: Sequence[str], kind: str, index: int, all_names: Mapping
) -> ipywidgets.Widget:
    """Return a selector whose label is as wide as the longest one, so that they line up."""
    widest = max(map(len, all_names))
    options = {
        "options": list(labels),
        "index": index,
        "description": name.replace("_", " "),
        "layout": ipywidgets.Layout(width="auto", max_width="32rem"),
        "style": {"description_width": f"{0.5 * widest + 1:.1f}em"},
    }
    if kind == "slider":
        selector = ipywidgets.SelectionSlider(**options)
    elif kind == "dropdown":
        selector = ipywidgets.Dropdown(**options)
    else:
        options["style"]["button_width"] = "auto"
        selector = ipywidgets.ToggleButtons(**options)
        # Unlike the others, its view does not put label and buttons side by side.
        for css in ("jupyter-widgets", "widget-inline-hbox"):
            selector.add_class(css)
    if selector.has_trait("tooltip"):
        selector.tooltip = selector.description  # otherwise its label gets the tooltip "null"
    return selector


def still(labels: Mapping[str, str], picture: str) -> str:
    """Return the HTML of one state, laid out like the controls and picture.

    Parameters
    ----------
    labels
        Name of each selector to the label chosen.
    picture
        HTML of the state.
    """
    rows = "".join(
        f'<div class="cnnbook-control">{html.escape(name.replace("_", " "))}: '
        f"<strong>{html.escape(label)}</strong></div>"
        for name, label in labels.items()
    )
    return f'<div class="cnnbook-still">{rows}{picture}</div>'
