"""Names of studies, made from the names of the user's folders and files."""

import re
import unicodedata

from space.fingerprint import fingerprint

LONGEST = 60  # characters; a study's name has at most 100, with budget and number
LATIN = re.compile(r"LATIN (?:SMALL|CAPITAL) (?:LETTER|LIGATURE) ([A-Z]{1,2})(?: WITH .*)?")
DIGEST_DIGITS = 6


def plain_name(text: str, otherwise: str) -> str:
    """The text as it may stand in a study's name: readable and valid.

    Letters lose their accents, other ASCII signs become dashes. Where more is lost, a letter of
    another alphabet or the end of a long text, a digest of the text tells it from its likes.

    Args:
        otherwise: the word where no letter or digit is left.
    """
    text = unicodedata.normalize("NFC", text)
    letters = "".join(map(_latin, text))
    plain = re.sub(r"[^A-Za-z0-9._-]+", "-", letters).strip("._-") or otherwise
    lost = any(not sign.isascii() for sign in letters)
    if not lost and len(plain) <= LONGEST:
        return plain
    digest = fingerprint(text.encode(errors="surrogateescape"), digits=DIGEST_DIGITS)
    return f"{plain[: LONGEST - DIGEST_DIGITS - 1].rstrip('._-')}-{digest}"


def _latin(sign: str) -> str:
    """A letter of the Latin alphabet without what is around it: `ü` u, `ł` l, `æ` ae, `ß` ss."""
    if sign.isascii():
        return sign
    plain = "".join(c for c in unicodedata.normalize("NFKD", sign) if not unicodedata.combining(c))
    found = LATIN.fullmatch(unicodedata.name(sign, ""))
    if not plain.isascii() and found:
        plain = found[1] if sign.isupper() else found[1].lower()
    return plain if plain.isascii() else plain.casefold()
