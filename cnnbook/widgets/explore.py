"""Figures with controls, drawn once for every state."""

import html
from collections.abc import Callable, Container, Iterable, Mapping, Sequence
from itertools import product
from math import prod
from typing import TYPE_CHECKING, Any

from cnnbook._errors import check_kind, unknown
from cnnbook._progress import progress_bar
from cnnbook.widgets.compact import compact, definitions, inlined

if TYPE_CHECKING:
    from cnnbook.widgets.linked import Explorer

# A page must stay light: the book allows 6 MB, of which the theme and widget scripts take 4.5.
MAX_STATES = 300  # different ones
MAX_COMBINATIONS = 1000
BUTTON_LETTERS = 60  # what fits side by side at page width
MAX_BYTES = 1_000_000
# Nothing moves when the control for one's own picture is there.
ROOM_OF_OWN = '<div class="cnnbook-control cnnbook-own-row"></div>'


def explore(
    draw: Callable[..., object],
    /,
    *,
    first: Mapping[str, object] | None = None,
    **choices: Iterable[Any],
) -> "Explorer":
    """Draw every combination of some choices, and let the reader switch between them.

    Everything is drawn when this is called, so no kernel is needed afterward: the same output
    works in Jupyter, in Colab, and on a static page. The controls can be operated with the
    keyboard.

    Parameters
    ----------
    draw
        Called once for each combination, as ``draw(name=value, …)``. Returns a
        :class:`cnnbook.plots.Figure`, a string, a :class:`cnnbook.tables.Table` or anything else
        with a ``_repr_html_``, or a list of these to be shown one below the other.
    first
        Initial values, or labels of values, ``{name: value}``; by default, the first of each
        choice.
    **choices
        Values of each argument of `draw`. A sequence of two or more numbers becomes a slider,
        booleans and a few short strings (up to twelve that fit into 60 letters) become buttons, and
        others a dropdown. A mapping gives the values by their labels.

    Returns
    -------
    Explorer
        An ipywidgets ``VBox``: the selectors, also found by name in ``.selectors``, and below them
        the picture. It is displayed when it is the last value of a cell.

    Raises
    ------
    ImportError
        If ipywidgets is not installed.
    ValueError
        If a choice has no value or has a label twice; if `first` names no choice or value; if there
        are more than 1000 combinations, or more than 300 with different pictures; or if the
        pictures take more than 1 MB in total, with equal parts counted once.
    TypeError
        If `draw` is not a function or returns something that cannot be shown, or what a choice has
        is not several values.

    Examples
    --------
    >>> squares = explore(lambda n: f"The square of {n} is {n * n}.", n=range(1, 11))
    >>> squares
    <Explorer of 10 states (n: 10)>
    """
    return explored(draw, first, choices)


def explored(
    draw: Callable[..., object],
    first: Mapping[str, object] | None,
    choices: Mapping[str, Iterable[Any]],
    own: str = "",
) -> "Explorer":
    """Return the explorer that :func:`explore` describes.

    `own` is what a page needs to compute it for its reader's own picture, as HTML.
    """
    try:
        from cnnbook.widgets.linked import Explorer, still
    except ModuleNotFoundError as error:
        if error.name and not error.name.startswith("ipywidgets"):
            raise
        raise ImportError(
            "interactive figures need ipywidgets, which is not installed: pip install ipywidgets"
        ) from None

    check_kind("draw", draw, Callable, "a function that returns what to show, draw(name=value, …)")
    check_kind("first", first, Mapping | None, "a mapping from choices to their first values")
    labels, values, kinds = {}, {}, {}
    for name, given in choices.items():
        check_kind(name, given, Iterable, "the values to choose from, such as a list or a range")
        given = given if isinstance(given, Mapping) else list(given)
        labels[name], values[name] = _labeled(name, given)
        kinds[name] = _kind(given, labels[name])
    start = _start(first or {}, labels, values)
    count = prod(map(len, values.values()))
    if not choices or count > MAX_COMBINATIONS:
        raise ValueError(
            f"an explorer takes 1 to {MAX_COMBINATIONS} combinations of choices, got {count}: "
            f"{_sizes(values)}. Give fewer values, or several explorers"
        )

    drawn, result = _draw_all(draw, values, start)
    chosen = {name: allowed[i] for (name, allowed), i in zip(labels.items(), start, strict=True)}
    body, parts = drawn[start]
    room = ROOM_OF_OWN if own else ""
    picture = still(chosen, room + (definitions(parts) if parts else "") + body)
    pictures, shared = _joined(drawn)
    return Explorer(labels, kinds, start, pictures, definitions(shared) + own, picture, result)


def _draw_all(draw: Callable, values: Mapping, start: tuple[int, ...]) -> tuple[dict, object]:
    """Return what each state shows, by the indices of its choices, and the first one's result.

    The former is as :func:`_shown` returns it, the latter as `draw` does.
    """
    count = prod(map(len, values.values()))
    drawn, weight, seen, pictures, first = {}, 0, set(), set(), None
    with progress_bar(count, desc="drawing", leave=False) as bar:
        for state in product(*(range(len(v)) for v in values.values())):
            arguments = {n: v[i] for (n, v), i in zip(values.items(), state, strict=True)}
            result = draw(**arguments)
            body, parts = drawn[state] = _shown(result, arguments)
            if state == start:
                first = result
            new = {body: len(body), **{name: len(text) for name, text in parts.items()}}
            weight += sum(size for key, size in new.items() if key not in seen)
            pictures.add(body)
            if len(pictures) > MAX_STATES:
                raise ValueError(
                    f"an explorer takes up to {MAX_STATES} different pictures, and more of these "
                    f"{count} are: {_sizes(values)}. Give fewer values, or several explorers"
                )
            seen |= set(new)
            if weight > MAX_BYTES:
                raise ValueError(
                    f"the first {len(drawn)} of {count} pictures take {weight / 1e6:.1f} MB, more "
                    f"than the {MAX_BYTES / 1e6:g} MB of an explorer: {_sizes(values)}. Give fewer "
                    "values, or draw with fewer pixels or marks"
                )
            bar.update()
    return drawn, first


def _joined(drawn: Mapping) -> tuple[dict, dict[str, str]]:
    """Return each state's picture, and the definitions that several of them need."""
    users: dict[str, set[str]] = {}
    for body, parts in drawn.values():
        for part in parts:
            users.setdefault(part, set()).add(body)
    shared, pictures = {}, {}
    for state, (body, parts) in drawn.items():
        own = {name: text for name, text in parts.items() if len(users[name]) == 1}
        shared |= {name: text for name, text in parts.items() if name not in own}
        pictures[state] = inlined(body, own)
    return pictures, shared


def _sizes(values: Mapping) -> str:
    return ", ".join(f"{name} has {len(v)}" for name, v in values.items()) or "none given"


def preferred(choices: Mapping[str, Container[object]], **wanted: object) -> dict[str, object]:
    """Return the requested first values that are among the choices."""
    return {name: value for name, value in wanted.items() if value in choices[name]}


def _labeled(name: str, given) -> tuple[list[str], list]:
    if isinstance(given, Mapping):
        labels, values = [str(label) for label in given], list(given.values())
    else:
        values = list(given)
        labels = [_label(value) for value in values]
    if not values:
        raise ValueError(f"choice {name!r} has no values; give at least one")
    twice = {label for label in labels if labels.count(label) > 1}
    if twice:
        raise ValueError(f"choice {name!r} has the label {twice.pop()!r} more than once")
    return labels, values


def _label(value: object) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    return f"{value:g}" if isinstance(value, float) else str(value)


def _kind(given, labels: Sequence[str]) -> str:
    if len(labels) > 1 and all(_is_number(key) for key in given):
        return "slider"
    # Each button has a frame of about two letters.
    few = 2 <= len(labels) <= 12 and sum(2 + len(label) for label in labels) <= BUTTON_LETTERS
    return "toggle" if few else "dropdown"


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _start(first: Mapping, labels: Mapping[str, list[str]], values: Mapping) -> tuple[int, ...]:
    for name in first:
        if name not in labels:
            raise unknown("choice in first", name, labels)
    indices = []
    for name, allowed in labels.items():
        given = first.get(name, allowed[0])
        wanted = _label(given)
        if wanted not in allowed:  # then it may be a value that has another label
            named = zip(allowed, values[name], strict=True)
            wanted = next((n for n, v in named if v is given or _label(v) == wanted), wanted)
        if wanted not in allowed:
            raise unknown(f"value of {name!r} in first", wanted, allowed)
        indices.append(allowed.index(wanted))
    return tuple(indices)


def _shown(result: object, state: Mapping) -> tuple[str, dict[str, str]]:
    """Return the HTML of one state without its definitions, and the definitions."""
    if isinstance(result, list | tuple):
        pieces = [_shown(piece, state) for piece in result]
        parts = {name: text for _, own in pieces for name, text in own.items()}
        return "".join(body for body, _ in pieces), parts
    if isinstance(result, str):
        text = html.escape(result)
        return f"<p class='cnnbook-caption' style='line-height:1.5'>{text}</p>", {}
    if hasattr(result, "svg") and hasattr(result, "alt"):
        body, parts = compact(result.svg())
        return _framed(body), parts
    if hasattr(result, "_repr_html_"):
        return result._repr_html_(), {}
    raise TypeError(
        f"draw returned {type(result).__name__} for {dict(state)}; return a cnnbook.plots.Figure, "
        "a text, a table, or a list of these"
    )


def _framed(svg: str) -> str:
    # A wide picture of the book scrolls on a phone. Here it shrinks: the reader compares states,
    # and has to see them whole.
    svg = svg.replace("min-width:30rem;", "")
    return f"<figure class='cnnbook-figure' style='margin:0'>{svg}</figure>"
