"""Fingerprints: short digests by which a study, a teacher or a file is known again.

They are stored, so a change here makes what was trained and cached before unknown.
"""

import hashlib
import json
from pathlib import Path

DIGITS = 12
ALL_DIGITS = 64


def fingerprint(*parts: object, digits: int = DIGITS) -> str:
    """Hexadecimal digits of the SHA-256 of all parts, one after the other.

    Args:
        parts: text, bytes (a memoryview too, of one dimension), or JSON data, whose tables may
            come in any order.
    """
    digest = hashlib.sha256()
    for part in parts:
        digest.update(_content(part))
    return digest.hexdigest()[:digits]


def file_fingerprint(path: Path, digits: int = ALL_DIGITS) -> str:
    """The same of a file's content; raises OSError."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()[:digits]


def _content(part: object) -> bytes | memoryview:
    if isinstance(part, bytes | memoryview):
        return part
    text = part if isinstance(part, str) else json.dumps(part, sort_keys=True)
    return text.encode()
