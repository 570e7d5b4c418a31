"""Wording of the errors that several modules raise."""

import difflib
from collections.abc import Iterable


def unknown(what: str, given: object, allowed: Iterable[str]) -> ValueError:
    """Build the error for a name that is not one of `allowed`, suggesting the nearest.

    Parameters
    ----------
    what
        What is being named, for example ``"activation"``.
    given
        The value the caller passed.
    allowed
        Every accepted name.

    Returns
    -------
    ValueError
        To be raised by the caller.
    """
    allowed = list(allowed)
    near = difflib.get_close_matches(str(given).lower(), allowed, n=1)
    hint = f" Did you mean {near[0]!r}?" if near else ""
    return ValueError(f"unknown {what} {given!r}; use one of: {', '.join(allowed)}.{hint}")
