"""Entry points for ``torch.hub.load("cnnbook/cnnbook", name, **options)``."""

dependencies = ["torch"]

from functools import partial as _partial  # noqa: E402

from cnnbook.models import create as _create  # noqa: E402
from cnnbook.models import list_models as _list_models  # noqa: E402

for _name in _list_models():
    globals()[_name] = _partial(_create, _name)
    globals()[_name].__doc__ = f"Build {_name}; options as in cnnbook.models.create."
del _name
