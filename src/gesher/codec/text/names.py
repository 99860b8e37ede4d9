"""The words of the text syntax: names of data types, of attribute types, of kinds of types."""

from gesher.base.dtypes import BY_CODE

# The names are those that schemas use; `undefined` is no type in the syntax.
DTYPE_CODES: dict[str, int] = {d.name: code for code, d in BY_CODE.items() if code}
DTYPE_NAMES: dict[int, str] = {code: name for name, code in DTYPE_CODES.items()}

ATTRIBUTE_TYPES: dict[str, int] = {
    "float": 1, "int": 2, "string": 3, "tensor": 4, "graph": 5, "floats": 6, "ints": 7, "strings": 8, "tensors": 9,
    "graphs": 10, "sparse_tensor": 11, "sparse_tensors": 12, "type_proto": 13, "type_protos": 14,
}
ATTRIBUTE_TYPE_NAMES: dict[int, str] = {code: name for name, code in ATTRIBUTE_TYPES.items()}

TYPE_WORDS = frozenset((*DTYPE_CODES, "seq", "map", "optional", "sparse_tensor", "opaque"))
UNDEFINED = "undefined"


def is_identifier(text: str) -> bool:
    """Whether a name can stand without quotes: ASCII letters, digits and underscores, no digit first."""
    return text.isascii() and text.isidentifier()
