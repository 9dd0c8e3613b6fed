"""The limit a student must keep: how it is written, and what an architecture costs in its unit."""

import re
from dataclasses import asdict, dataclass
from decimal import Decimal

from space.architecture import Architecture
from space.count import activation_peak, macs, parameters
from space.errors import InputError, shown
from space.file_format import StudentMetadata, check_format, stored_bytes

BYTE_UNITS = {
    "b": 1,
    "kb": 1_000,
    "mb": 1_000_000,
    "gb": 1_000_000_000,
    "kib": 1_024,
    "mib": 1_024**2,
    "gib": 1_024**3,
}
COUNT_UNITS = {"": 1, "k": 1_000, "m": 1_000_000, "g": 1_000_000_000}
MAX_DIGITS = 20


class InfeasibleError(InputError):
    """Not even the smallest student keeps the budget."""


@dataclass(frozen=True, slots=True)
class Budget:
    """A hard limit."""

    limit: int  # bytes of the stored file, or trainable parameters
    unit: str = "bytes"  # or "params"
    format: str = "int8"  # storage format; a limit in bytes counts the file in this format
    macs: int | None = None  # a further limit: multiply-accumulates for one image
    ram: int | None = None  # a further limit: bytes of live activations at the peak, in int8

    @classmethod
    def parse(
        cls,
        text: str,
        format: str = "int8",
        macs: str | int | None = None,
        ram: str | int | None = None,
    ) -> "Budget":
        """Read `300KB` (1,000 bytes), `300KiB` (1,024), `1.5MB`, `256k params`.

        Args:
            macs: e.g. `20M`.
            ram: e.g. `64KB`.

        Raises:
            InputError: no unit, not a number, not more than 0, an unknown storage format.
        """
        check_format(format)
        limit, unit = _parse_limit(text)
        work = None if macs is None else _parse_macs(macs)
        return cls(limit, unit, format, work, None if ram is None else _parse_ram(ram))

    def to_dict(self) -> dict[str, object]:
        """JSON data. A limit that studies of earlier versions did not know is left out if unset."""
        return {name: value for name, value in asdict(self).items() if name != "ram" or value}

    def __str__(self) -> str:
        limit = re.sub(r"\.0+ ", " ", self.amount(self.limit))
        limit += f" in {self.format}" if self.unit == "bytes" else ""
        more = [f"{self.macs:,} MACs"] if self.macs else []
        more += [f"{format_bytes(self.ram)} of RAM"] if self.ram else []
        return " and ".join([limit, *more])

    def amount(self, count: int) -> str:
        """A cost in the budget's unit, in words."""
        return format_bytes(count) if self.unit == "bytes" else f"{count:,} params"

    def needed(self, count: int) -> str:
        """As `amount`, rounded up: a budget of that size is enough."""
        if self.unit == "params" or count < 1_000:
            return self.amount(count)
        step = 100 if count < 1_000_000 else 10_000
        return format_bytes(-(-count // step) * step)

    def count(self, architecture: Architecture, metadata: StudentMetadata) -> int:
        """What an architecture costs in the budget's unit, exactly."""
        if self.unit == "params":
            return parameters(architecture)
        return stored_bytes(architecture, self.format, metadata)

    def refusal(
        self, architecture: Architecture, metadata: StudentMetadata, subject: str
    ) -> "InfeasibleError":
        """The error to raise where `architecture` is the smallest student of `subject`."""
        takes, macs_taken = self.count(architecture, metadata), macs(architecture, metadata.size)
        words = []
        if takes > self.limit:
            stored = f" in {self.format}" if self.unit == "bytes" else ""
            words.append(f"{self.needed(takes)}{stored}")
        if self.macs is not None and macs_taken > self.macs:
            words.append(f"{macs_taken:,} MACs")
        peak = activation_peak(architecture, metadata.size)
        if self.ram is not None and peak > self.ram:
            words.append(f"{format_bytes(peak)} of RAM")
        return InfeasibleError(
            f"budget {self} cannot be met: the smallest student of {subject} takes "
            f"{' and '.join(words)}; raise the budget, or choose a smaller width multiple"
        )


def format_bytes(count: int) -> str:
    """e.g. `299.9 KB`; a KB is 1,000 bytes."""
    if count < 1_000:
        return f"{count} B"
    if count < 1_000_000:
        return f"{count / 1_000:.1f} KB"
    return f"{count / 1_000_000:,.2f} MB"


def _parse_limit(text: str) -> tuple[int, str]:
    number, words = _parse_number("budget", text)
    params = re.fullmatch(r"([kmg]?) ?param(?:eter)?s?", words)
    if params is None and words in COUNT_UNITS:
        raise InputError(
            f"budget must have a unit, but got {shown(text)}; "
            "write e.g. 300KB (1,000 bytes each), 300KiB (1,024) or 300k params"
        )
    if params is None and words not in BYTE_UNITS:
        raise InputError(
            f"budget's unit must be one of B, KB, MB, GB, KiB, MiB, GiB, params, k params, "
            f"M params, but got {shown(text)}"
        )
    factor = COUNT_UNITS[params[1]] if params else BYTE_UNITS[words]
    return _at_least_one("budget", number * factor, text), "params" if params else "bytes"


def _parse_macs(text: str | int) -> int:
    number, words = _parse_number("MAC limit", str(text))
    if words not in COUNT_UNITS:
        raise InputError(f"MAC limit must be a number such as 20M, but got {shown(text)}")
    return _at_least_one("MAC limit", number * COUNT_UNITS[words], text)


def _parse_ram(text: str | int) -> int:
    number, words = _parse_number("RAM limit", str(text))
    if words not in BYTE_UNITS:
        raise InputError(f"RAM limit must be bytes such as 64KB, but got {shown(text)}")
    return _at_least_one("RAM limit", number * BYTE_UNITS[words], text)


def _parse_number(name: str, text: str) -> tuple[Decimal, str]:
    """The number, and the words after it in lower case."""
    match = re.fullmatch(r"\s*([+-]?\d+(?:\.\d+)?)\s*([a-z ]*?)\s*", text.lower(), re.ASCII)
    if match is None or len(match[1]) > MAX_DIGITS:
        example = "300KB, 1.5MiB or 256k params" if name == "budget" else "20M"
        raise InputError(
            f"{name} must be a number and a unit such as {example}, but got {shown(text)}"
        )
    return Decimal(match[1]), match[2]


def _at_least_one(name: str, number: Decimal, text: str | int) -> int:
    if number < 1:
        raise InputError(f"{name} must be more than 0, but got {shown(text)}")
    return int(number)
