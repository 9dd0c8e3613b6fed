"""What Dash may be asked to compute: what its own page asks, for anything else makes it fail.

Dash looks into a request without checking it, so that nonsense ends in a traceback. A callback
is registered with patterns (`{"card": ["MATCH"], "part": "graph"}`); the page names components.
"""

import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any

Registered = Mapping[str, Any]  # {"id": name or JSON of a pattern, "property": name}

TYPES: Mapping[str, type] = {  # of properties that our callbacks read; None where unset
    **dict.fromkeys(("pathname", "search", "href"), str),
    **dict.fromkeys(("n_clicks", "n_intervals"), int),
}
PLAIN = (str, int, float)  # what stands in the place of a wildcard


def is_update(asked: Any, callbacks: Mapping[str, Mapping[str, Any]]) -> bool:
    """Whether a request is one that the page makes.

    Args:
        asked: what was posted, read from JSON.
        callbacks: Dash's `callback_map`.
    """
    if not isinstance(asked, dict) or not isinstance(asked.get("output"), str):
        return False
    callback = callbacks.get(asked["output"], {})
    if "callback" not in callback:
        return False  # there is none, or it runs in the browser
    changed = asked.get("changedPropIds", [])
    return (
        _are_all(asked.get("inputs"), callback["inputs"], _is_argument)
        and _are_all(asked.get("state", []), callback["state"], _is_argument)
        and _are_outputs(asked.get("outputs"), callback["output"])
        and isinstance(changed, list)
        and all(isinstance(name, str) for name in changed)
    )


def _are_all(
    given: Any, registered: Sequence[Any], is_one: Callable[[Any, Registered], bool]
) -> bool:
    return (
        isinstance(given, list)
        and len(given) == len(registered)
        and all(map(is_one, given, registered))
    )


def _is_argument(given: Any, registered: Registered) -> bool:
    """One component's property with its value, or those of all that a pattern fits."""
    if "ALL" in _wildcards(registered):
        return isinstance(given, list) and all(_is_valued(one, registered) for one in given)
    return _is_valued(given, registered)


def _is_valued(given: Any, registered: Registered) -> bool:
    if not _is_component(given, registered):
        return False
    name, value = registered["property"], given.get("value")
    if name == "id":
        return bool(value == given["id"])
    return value is None or isinstance(value, TYPES.get(name, object))


def _are_outputs(given: Any, registered: Any) -> bool:
    """One output as it is, several as a list."""
    if isinstance(registered, Sequence):
        return _are_all(given, [one.to_dict() for one in registered], _is_component)
    return _is_component(given, registered.to_dict())


def _is_component(given: Any, registered: Registered) -> bool:
    if not isinstance(given, dict) or _name(given) != registered["property"]:
        return False
    pattern, identity = _pattern(registered), given.get("id")
    if not isinstance(pattern, dict):
        return bool(identity == pattern)
    return (
        isinstance(identity, dict)
        and identity.keys() == pattern.keys()
        and all(
            isinstance(identity[key], PLAIN) if isinstance(part, list) else identity[key] == part
            for key, part in pattern.items()
        )
    )


def _name(given: Mapping[str, Any]) -> str:
    """Dash marks a property that several callbacks write: `href@c0ffee`."""
    return str(given.get("property")).partition("@")[0]


def _pattern(registered: Registered) -> Any:
    """A component's name, or its pattern: a dictionary whose wildcards are lists."""
    identity = registered["id"]
    return json.loads(identity) if identity.startswith("{") else identity


def _wildcards(registered: Registered) -> set[str]:
    pattern = _pattern(registered)
    parts = pattern.values() if isinstance(pattern, dict) else ()
    return {part[0] for part in parts if isinstance(part, list)}
