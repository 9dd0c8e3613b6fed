"""Teachers that a study asks for: from a file, from the cache, or trained now and kept there."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from search.study.folder import Folder, check_name
from search.study.settings import NO_TEACHER, default_network, stated_recipe, teacher_base
from space.errors import InputError, require, require_one_of
from space.file_format import MAX_SIZE
from space.fingerprint import DIGITS, file_fingerprint
from trainers.data.datasets import Data
from trainers.recipe import Recipe
from trainers.teachers import teacher as teachers
from trainers.teachers.teach import teacher_key
from trainers.teachers.teacher import IMAGENET, Teacher
from trainers.teachers.weights import read_content


@dataclass(frozen=True, slots=True, kw_only=True)
class TeacherSpec:
    """A teacher to train, or to read where it was trained already."""

    network: str
    recipe: Recipe
    weights: str | None = None  # what to fine-tune: "imagenet" or a file; None: from scratch
    size: int | None = None  # pixels of its input; the data's by default

    @property
    def words(self) -> str:
        origin = f"fine-tuned from {Path(self.weights).name}" if self.weights else "from scratch"
        epochs = self.recipe.epochs
        return f"{self.network} {origin}, {epochs} {'epoch' if epochs == 1 else 'epochs'}"

    def check(self) -> None:
        """Raise InputError, before anything is trained, for what cannot be had."""
        require_one_of("teacher network", self.network, teachers.networks())
        if self.weights not in (None, IMAGENET):
            read_content(Path(str(self.weights)))
        self.recipe.check()

    def path(self, data: Data, cache: Path) -> Path:
        """Where it lies in the cache, or will."""
        source = self.weights if self.weights in (None, IMAGENET) else _digest(str(self.weights))
        key = teacher_key(self.network, data, self.recipe, self.size, source)
        return cache / "teachers" / f"{self.network}-{key}.pt"


TeacherSource = TeacherSpec | Path  # a teacher to train, or a file of one

# A teacher's table in an ablation's file.
KEYS = ("file", "network", "pretrained", "epochs", "lr", "input_size", "recipe", "seed")


def named_teachers(
    data: str, tables: Mapping[str, Any] | None, pretrained: str | None
) -> dict[str, TeacherSource]:
    """Teachers by name; where none is stated, one from scratch.

    Args:
        pretrained: stands for every `pretrained` of the tables, where it is given.

    Raises:
        InputError: an unknown key, a file that is not there, a setting outside its rule.
    """
    stated = {"scratch": {}} if tables is None else tables
    starts = any(isinstance(table, Mapping) and "pretrained" in table for table in stated.values())
    if pretrained is not None and not starts:
        raise InputError(
            "--pretrained needs a teacher that is fine-tuned, but no table of [teachers] has "
            "`pretrained`"
        )
    return {name: _named(name, data, table, pretrained) for name, table in stated.items()}


def _named(name: str, data: str, table: Any, pretrained: str | None) -> TeacherSource:
    where = f"teacher {name!r}"
    check_name(name, "a teacher")
    require("teacher's name", name, name != NO_TEACHER, f"another one than {NO_TEACHER!r}")
    require(where, table, isinstance(table, Mapping), "a table")
    unknown = next((key for key in table if key not in KEYS), None)
    if unknown is not None:
        raise InputError(f"{where}: unknown setting {unknown!r}; known: {', '.join(KEYS)}")
    try:
        return _file(table) if "file" in table else _wanted(data, table, pretrained)
    except InputError as error:
        raise InputError(f"{where}: {error}") from None


def _file(table: Mapping[str, Any]) -> Path:
    require("file", table, len(table) == 1, "the only setting of a teacher that has it")
    path = Path(str(table["file"]))
    teachers.read_info(path)
    return path


def _wanted(data: str, table: Mapping[str, Any], pretrained: str | None) -> TeacherSpec:
    weights = (pretrained or table["pretrained"]) if "pretrained" in table else None
    default = teacher_base(data) if weights is None else "teacher-finetune"
    base = stated_recipe(table.get("recipe"), default)
    given = {key: table[key] for key in ("epochs", "lr", "seed") if key in table}
    if "lr" in given and isinstance(given["lr"], int | float):
        given["lr_end"] = min(given["lr"], base.lr_end)
    recipe = base.with_settings(given)
    size, network = table.get("input_size"), table.get("network", default_network(data))
    valid = size is None or (type(size) is int and 1 <= size <= MAX_SIZE)
    require("input_size", size, valid, f"1 to {MAX_SIZE} pixels")
    if recipe.needs_teacher:
        raise InputError("its recipe must learn from the labels alone: phases = [[0, 0]]")
    wanted = TeacherSpec(network=str(network), recipe=recipe, weights=weights, size=size)
    wanted.check()
    return wanted


def check_teachers(named: Mapping[str, TeacherSource], data: Data) -> None:
    """Raise InputError for a teacher that cannot be read, or cannot be made for the data."""
    for its in named.values():
        if isinstance(its, Path):
            read(its, data)
        else:
            teachers.untrained(its.network, data, size=its.size)


def is_cached(path: Path) -> bool:
    return path.exists() and path.with_suffix(".json").exists()


def keep_teachers(folder: Folder, teachers_by_name: Mapping[str, Teacher]) -> None:
    """A study's own copies, to be written before the study: what can be resumed has them."""
    for name, teacher in teachers_by_name.items():
        path = folder.teacher(name)
        teachers.save(path, teacher.model, teacher.info)
        folder.keep(path.name, path.with_suffix(".json").name)


def read(path: Path, data: Data) -> Teacher:
    """The teacher of a file; it must know the data's classes."""
    return teachers.for_classes(teachers.load(path), data.classes)


def _digest(path: str) -> str:
    try:
        return file_fingerprint(Path(path), DIGITS)
    except OSError as error:
        raise InputError(f"weights {path} cannot be read: {error.strerror}") from None
