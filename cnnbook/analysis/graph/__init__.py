"""The graph of a network's run, and what every tensor in it depends on."""

from cnnbook.analysis.graph.inputs import InputLike
from cnnbook.analysis.graph.operations import OperationCall, Role, operation
from cnnbook.analysis.graph.reach import Part, Reach, Span, Table, Untraceable, join, product
from cnnbook.analysis.graph.recorder import trace
from cnnbook.analysis.graph.traces import IMAGE, Block, Call, Operation, Trace

__all__ = [
    "IMAGE",
    "Block",
    "Call",
    "InputLike",
    "Operation",
    "OperationCall",
    "Part",
    "Reach",
    "Role",
    "Span",
    "Table",
    "Trace",
    "Untraceable",
    "join",
    "operation",
    "product",
    "trace",
]
