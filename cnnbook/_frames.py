"""Results as data frames of pandas, which this package does not require."""

from typing import Any


def data_frame(rows: Any, **options: Any) -> Any:
    """Return ``pandas.DataFrame(rows, **options)``.

    Raises
    ------
    ImportError
        If pandas is not installed.
    """
    try:
        import pandas
    except ImportError as error:
        raise ImportError("to_pandas needs pandas: pip install pandas") from error
    return pandas.DataFrame(rows, **options)
