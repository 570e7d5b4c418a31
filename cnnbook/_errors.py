"""Wording of the errors that several modules raise."""

import difflib
from collections.abc import Iterable

_LISTED = 12  # names; of longer lists, the first ten


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


def no_tensor(name: str, value: object) -> TypeError:
    """Build the error for an argument that must be a torch tensor and is something else.

    Parameters
    ----------
    name
        Name of the argument.
    value
        The value the caller passed.

    Returns
    -------
    TypeError
        To be raised by the caller.
    """
    if type(value).__module__ == "numpy":
        given, cure = "a numpy array", f"; use torch.from_numpy({name})"
    elif type(value).__name__ in ("Conv2d", "Linear"):
        given, cure = f"a layer {type(value).__name__}", f"; pass {name}=layer.weight"
    elif isinstance(value, list | tuple):
        given, cure = f"a {type(value).__name__}", "; torch.stack or torch.tensor makes one"
    else:
        given, cure = type(value).__name__, ""
    return TypeError(f"{name} must be a torch tensor, got {given}{cure}")
