"""JSON objects and TOML tables read into dataclasses: strictly, with one line for what is wrong.

A setting that is unknown, missing, or of another type than its field is refused. Rules for values
come later: a class checks them itself.
"""

from collections.abc import Mapping
from dataclasses import MISSING, fields, is_dataclass, replace
from functools import lru_cache
from types import NoneType, UnionType
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar, get_args, get_origin, get_type_hints

from space.errors import InputError, require, shown

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

    T = TypeVar("T", bound=DataclassInstance)
else:
    T = TypeVar("T")

Table = Mapping[str, object]  # a JSON object, or a table of TOML

TABLE = "a table of settings"
WORDS: Mapping[object, str] = {
    int: "a whole number",
    float: "a number",
    bool: "true or false",
    str: "text",
    tuple: "a list",
    list: "a list",
}


def read(kind: type[T], data: object, where: str, over: T | None = None) -> T:
    """The dataclass that a table states.

    Whole numbers become floats, and lists tuples, where a field wants that. A field whose class
    has a `from_dict` is read by it. A field's metadata may have `words`: what it must be.

    Args:
        where: what is read, for messages: a file's name, or `recipe`.
        over: what settings are taken from that the table leaves out; without it, their defaults.

    Raises:
        InputError: no table; a setting that is unknown, missing or of another type.
    """
    settings, given = _settings(kind), {}
    for name, value in as_table(data, where).items():
        if name not in settings:
            known = ", ".join(settings)
            raise InputError(f"{where}: unknown setting {shown(name)}; known: {known}")
        given[name] = typed(settings[name].type, value, f"{where}: {name}", settings[name].words)
    if over is not None:
        return replace(over, **given)
    for name, setting in settings.items():
        if setting.required and name not in given:
            raise InputError(f"{where}: setting {name!r} is missing")
    return kind(**given)


def as_table(data: object, where: str) -> Table:
    """The data, where they are a table; raises InputError."""
    if not isinstance(data, Mapping):
        raise InputError(f"{where} must be {TABLE}, but got {shown(data)}")
    return data


def typed(kind: object, value: object, name: str, words: str = "") -> object:
    """The value as one of a field's type; raises InputError where it is of another.

    Args:
        words: what it must be, where that is better said at once than for a part of it.
    """
    options = get_args(kind) if isinstance(kind, UnionType) else (kind,)
    fitting = next((option for option in options if _fits(option, value)), None)
    try:
        if fitting is not None:
            return _converted(fitting, value, name)
    except InputError:
        if not words:
            raise
    each = (WORDS.get(get_origin(o) or o, TABLE) for o in options if o is not NoneType)
    rule = words or " or ".join(dict.fromkeys(each))
    raise InputError(f"{name} must be {rule}, but got {shown(value)}")


def _fits(kind: object, value: object) -> bool:
    """Whether a value is of a type, whatever is in it."""
    base = get_origin(kind) or kind
    if base is float:
        return type(value) in (int, float)
    if base in (tuple, list):
        return isinstance(value, list | tuple)
    if isinstance(base, type) and (is_dataclass(base) or base is Mapping):
        return isinstance(value, base | Mapping)
    return base in (object, Any) or type(value) is base


def _converted(kind: object, value: object, name: str) -> object:
    base, inner = get_origin(kind) or kind, get_args(kind)
    if base is float and isinstance(value, int):
        try:
            return float(value)
        except OverflowError:
            raise InputError(f"{name} must be finite, but got {shown(value)}") from None
    if base in (tuple, list) and isinstance(value, list | tuple):
        kinds = inner[:1] * len(value) if base is list or Ellipsis in inner else inner
        require(name, value, len(value) == len(kinds), f"a list of {len(kinds)}")
        items = zip(kinds, value, strict=True)
        found = [typed(each, item, f"{name}, item {n}") for n, (each, item) in enumerate(items, 1)]
        return found if base is list else tuple(found)
    if base is Mapping and isinstance(value, Mapping):
        return {key: typed(inner[1], item, f"{name}.{key}") for key, item in value.items()}
    if isinstance(base, type) and is_dataclass(base) and not isinstance(value, base):
        own = getattr(base, "from_dict", None)
        return own(value) if own else read(base, value, name)
    return value


class _Setting(NamedTuple):
    type: object
    required: bool
    words: str


@lru_cache
def _settings(kind: type) -> dict[str, _Setting]:
    """Fields of a dataclass by name."""
    hints = get_type_hints(kind)
    return {
        part.name: _Setting(
            hints[part.name],
            part.default is MISSING and part.default_factory is MISSING,
            part.metadata.get("words", ""),
        )
        for part in fields(kind)
    }
