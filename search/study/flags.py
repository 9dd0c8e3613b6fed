"""The flags that the commands which train have in common, as they were typed."""

from collections.abc import Mapping
from dataclasses import dataclass, fields


@dataclass(frozen=True, slots=True, kw_only=True)
class Flags:
    """Where a study and its data lie, and how this process takes part. None: not given."""

    storage: str
    cache: str
    device: str
    workers: str = "1"  # students trained at once: `--parallel`
    as_json: bool = False
    data: str | None = None
    unlabelled: str | None = None
    artifacts: str | None = None
    grace: float | None = None
    timeout: str | None = None
    gpu_hours: float | None = None
    on: str | None = None
    gpus_per_worker: float | None = None
    out: str | None = None

    @classmethod
    def split(cls, given: Mapping[str, object]) -> "tuple[Flags, dict[str, object]]":
        """These flags, and the others that were given to a command."""
        own = {part.name for part in fields(cls)}
        others = {name: value for name, value in given.items() if name not in own}
        flags = cls(**{name: given[name] for name in own & given.keys()})  # type: ignore[arg-type]
        return flags, others

    @property
    def elsewhere(self) -> tuple[str, ...]:
        """`--data` and so on as `resume` takes them: a study's files that were moved."""
        given = {
            "--data": self.data,
            "--unlabelled": self.unlabelled,
            "--artifacts": self.artifacts,
        }
        pairs = [(flag, value) for flag, value in given.items() if value is not None]
        return tuple(word for pair in pairs for word in pair)
