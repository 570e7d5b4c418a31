"""Wording of the errors that several modules raise."""

import difflib
import inspect
import types
import typing
from collections.abc import Callable, Iterable, Mapping
from numbers import Integral, Real

_LISTED = 12  # names; of longer lists, the first ten


def counted(number: int, noun: str) -> str:
    """Return ``"1 image"``, ``"2 images"``, ``"3 classes"``."""
    plural = noun + ("es" if noun.endswith("s") else "s")
    return f"{number:,} {noun if number == 1 else plural}"


def unknown(
    what: str, given: object, allowed: Iterable[str], *, see: str | None = None
) -> ValueError:
    """Build the error for a name that is not one of `allowed`, suggesting the nearest.

    Parameters
    ----------
    what
        What is being named, for example ``"activation"``.
    given
        The value the caller passed.
    allowed
        Every accepted name. A long list is cut, and its length given.
    see
        Where to find all of them, for a long list.

    Returns
    -------
    ValueError
        To be raised by the caller.
    """
    allowed = list(map(str, allowed))
    near = difflib.get_close_matches(str(given).lower(), allowed, n=1)
    start = f". Did you mean {near[0]!r}? Use" if near else "; use"
    if not allowed:
        return ValueError(f"unknown {what} {given!r}; there are none")
    if len(allowed) > _LISTED:
        more = f", … ({len(allowed)} in all{f'; see {see}' if see else ''})"
        listed = ", ".join(allowed[:10]) + more
    else:
        listed = ", ".join(allowed)
    return ValueError(f"unknown {what} {given!r}{start} one of: {listed}.")


def described(value: object) -> str:
    """Return how an error names a value: itself if it is short, else its type."""
    if value is None or isinstance(value, str | bytes | Real):
        text = repr(value)
        return text if len(text) <= 60 else f"{text[:57]}…"
    name = type(value).__name__
    return f"{'an' if name[0] in 'AEIOUaeiou' else 'a'} {name}"


def check_kind(name: str, value: object, kind: type | types.UnionType, needed: str) -> None:
    """Raise TypeError unless an argument is of the kind that it must be.

    Parameters
    ----------
    name
        Name of the argument.
    value
        The value the caller passed.
    kind
        What it must be.
    needed
        That kind in words, with where it comes from, for example ``"a table, as
        cnnbook.analysis.summary makes it"``.
    """
    # To Python, a text is a sequence of letters; nobody means it as one.
    text = isinstance(value, str) and str not in (typing.get_args(kind) or [kind])
    if text or not isinstance(value, kind):
        raise TypeError(f"{name} must be {needed}, got {described(value)}")


_KINDS = {
    bool: ("True or False", bool),
    int: ("a whole number", Integral),
    float: ("a number", Real),
    type(None): ("None", type(None)),
}


def check_options(
    what: str,
    given: Mapping[str, object],
    function: Callable[..., object],
    without: Iterable[str] = (),
) -> None:
    """Raise ValueError for options that a function does not have, or that are no numbers.

    Parameters
    ----------
    what
        What an option is, for example ``"option of vgg16"``.
    given
        The options.
    function
        What they will be passed to; its annotations say which take numbers.
    without
        Parameters of the function that are not options.
    """
    parameters = inspect.signature(function).parameters
    names = [name for name in parameters if name not in set(without)]
    if any(p.kind is p.VAR_KEYWORD for p in parameters.values()):
        names = [*names, *given]
    for name, value in given.items():
        if name not in names:
            raise unknown(what, name, names)
        annotation = parameters[name].annotation if name in parameters else None
        if typing.get_origin(annotation) is tuple:
            count = len(typing.get_args(annotation))
            if not isinstance(value, (tuple, list)) or len(value) != count:
                raise ValueError(
                    f"{name} must be {count} values with a comma between them, got {name}={value!r}"
                )
        union = typing.get_origin(annotation) in (typing.Union, types.UnionType)
        kinds = typing.get_args(annotation) if union else (annotation,)
        if not all(kind in _KINDS for kind in kinds):
            continue  # texts, tuples, …: the function itself says which it takes
        right = any(isinstance(value, _KINDS[kind][1]) for kind in kinds)
        if not right or (isinstance(value, bool) and bool not in kinds):
            allowed = " or ".join(_KINDS[kind][0] for kind in kinds)
            raise ValueError(f"{name} must be {allowed}, got {name}={value!r}")
