"""Checks of numbers, with the same wording everywhere."""


def check_positive(name: str, value: float) -> None:
    """Raise ValueError unless a number is greater than zero."""
    if value <= 0:
        raise ValueError(f"{name} must be positive, got {name}={value}")


def check_fraction(name: str, value: float) -> None:
    """Raise ValueError unless a number is from 0 to 1."""
    if not 0 <= value <= 1:
        raise ValueError(f"{name} is a fraction from 0 to 1, got {name}={value}")
