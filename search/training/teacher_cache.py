"""Teachers that a study asks for: from a file, from the cache, or trained now and kept there."""

import re
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from search.study.folder import Folder, check_name
from search.study.settings import NO_TEACHER, default_network, stated_recipe, teacher_base
from space.errors import InputError, require, require_one_of, require_range
from space.file_format import MAX_SIZE
from space.fingerprint import DIGITS, file_fingerprint
from space.schema import Table, read
from trainers.data.datasets import Data
from trainers.recipe import Recipe
from trainers.teachers import description, networks
from trainers.teachers import teacher as teachers
from trainers.teachers.early import early_path
from trainers.teachers.ensemble import MIXES, PROBABILITIES
from trainers.teachers.teach import teacher_key
from trainers.teachers.teacher import FACTORY, IMAGENET, Teacher
from trainers.teachers.weights import read_content

NAMED = (None, IMAGENET, FACTORY)  # weights that are no file
SIGNS = re.compile(r"[^\w.-]")  # of a network's name, and of no file's


@dataclass(frozen=True, slots=True, kw_only=True)
class TeacherSpec:
    """A teacher to train, or to read where it was trained already."""

    network: str
    recipe: Recipe
    weights: str | None = None  # to fine-tune: a name of NAMED or a file; None: from scratch
    size: int | None = None  # pixels of its input; the data's by default
    stop_after: int | None = None  # epochs, fewer than the recipe's; None: trained to its end

    @property
    def words(self) -> str:
        origin = f"fine-tuned from {Path(self.weights).name}" if self.weights else "from scratch"
        epochs = self.recipe.epochs
        stop = "" if self.stop_after is None else f", stopped after {self.stop_after}"
        return f"{self.network} {origin}, {epochs} {'epoch' if epochs == 1 else 'epochs'}{stop}"

    @property
    def whole(self) -> "TeacherSpec":
        """The same training to its end."""
        return replace(self, stop_after=None)

    @property
    def last(self) -> int:
        """Epochs that it is trained for."""
        return self.recipe.epochs if self.stop_after is None else self.stop_after

    def stopped(self, epochs: int) -> "TeacherSpec":
        """The same training, broken off after so many epochs unless these are all."""
        return replace(self, stop_after=None if epochs == self.recipe.epochs else epochs)

    def levels(self, named: "Iterable[TeacherSource]") -> "list[TeacherSpec]":
        """Those of some teachers that this one's training gives, the one itself among them."""
        specs = [its for its in named if isinstance(its, TeacherSpec)]
        return list(dict.fromkeys((self, *(s for s in specs if s.whole == self.whole))))

    def check(self) -> None:
        """Raise InputError, before anything is trained, for what cannot be had."""
        networks.check_name(self.network)
        if self.weights not in NAMED:
            read_content(Path(str(self.weights)))
        self.recipe.check()

    def seen(self, data: Data) -> Data:
        """The photographs at the size of its input, which it is trained on."""
        return data.at(self.size or data.size)

    def path(self, data: Data, cache: Path) -> Path:
        """Where it lies in the cache, or will."""
        source = self.weights if self.weights in NAMED else _digest(str(self.weights))
        key = teacher_key(self.network, self.seen(data), self.recipe, self.size, source)
        whole = cache / "teachers" / f"{SIGNS.sub('-', self.network)}-{key}.pt"
        return whole if self.stop_after is None else early_path(whole, self.stop_after)


@dataclass(frozen=True, slots=True, kw_only=True)
class TeacherFiles:
    """A teacher's file, or those of several that are asked as one."""

    paths: tuple[Path, ...]
    mix: str = PROBABILITIES  # how the answers of several become one

    @property
    def sizes(self) -> tuple[int, ...]:
        """Pixels of their inputs; InputError where one is no teacher."""
        return tuple(description.read_info(path).size for path in self.paths)

    def read(self, data: Data) -> Teacher:
        """The teacher, its logits in the order of the data's classes."""
        found = [teachers.for_classes(teachers.load(path), data.classes) for path in self.paths]
        return found[0] if len(found) == 1 else teachers.together(found, self.mix)


TeacherSource = TeacherSpec | TeacherFiles  # a teacher to train, or to read


def sizes_seen(sources: Iterable[TeacherSource]) -> set[int]:
    """Pixels that photographs are needed at for the teachers; InputError for what is no teacher."""
    known = (
        max(source.sizes) if isinstance(source, TeacherFiles) else source.size for source in sources
    )
    return {size for size in known if size is not None}


@dataclass(frozen=True, slots=True, kw_only=True)
class TeacherTable:
    """A teacher's table in an ablation's file, as it is written. None: not stated."""

    file: str | tuple[str, ...] | None = None  # several are asked as one
    mix: str | None = None  # of several
    network: str | None = None
    pretrained: str | None = None
    epochs: int | None = None
    stop_after: int | None = None
    lr: float | None = None
    input_size: int | None = None
    recipe: str | Table | None = None
    seed: int | None = None

    def source(self, data: str) -> TeacherSource:
        """The teacher that it asks for; raises InputError for what cannot be had."""
        if self.file is not None:
            alone = self == TeacherTable(file=self.file, mix=self.mix)
            require("file", self.file, alone, "the only setting of a teacher that has it")
            names = (self.file,) if isinstance(self.file, str) else self.file
            require("file", list(names), bool(names), "a teacher's file, or a list of them")
            several = TeacherFiles(paths=tuple(map(Path, names)), mix=self.mix or PROBABILITIES)
            require_one_of("mix", several.mix, MIXES)
            for path in several.paths:
                description.read_info(path)
            return several
        require("mix", self.mix, self.mix is None, "of a teacher with several files")
        default = teacher_base(data) if self.pretrained is None else "teacher-finetune"
        base = stated_recipe(self.recipe, default)
        stated = {"epochs": self.epochs, "lr": self.lr, "seed": self.seed}
        given: dict[str, object] = {k: value for k, value in stated.items() if value is not None}
        if self.lr is not None:
            given["lr_end"] = min(self.lr, base.lr_end)
        recipe, size = base.with_settings(given), self.input_size
        valid = size is None or 1 <= size <= MAX_SIZE
        require("input_size", size, valid, f"1 to {MAX_SIZE} pixels")
        if recipe.needs_teacher:
            raise InputError("its recipe must learn from the labels alone: phases = [[0, 0]]")
        network = self.network or default_network(data)
        networks.check_name(network)
        size = size or teachers.own_size(network)
        wanted = TeacherSpec(network=network, recipe=recipe, weights=self.pretrained, size=size)
        wanted.check()
        if self.stop_after is None:
            return wanted
        require_range("stop_after", self.stop_after, 1, recipe.epochs)
        return wanted.stopped(self.stop_after)


def named_teachers(
    data: str, tables: Table, pretrained: str | None, asked: Collection[str]
) -> dict[str, TeacherSource]:
    """Teachers by name.

    Args:
        pretrained: stands for every `pretrained` of the tables, where it is given.
        asked: names of those that are needed.

    Raises:
        InputError: an unknown key, a file that is not there, a setting outside its rule.
    """
    stated = {name: _table(name, table) for name, table in tables.items()}
    if pretrained is not None:
        if all(table.pretrained is None for table in stated.values()):
            raise InputError(
                "--pretrained needs a teacher that is fine-tuned, but no table of [teachers] has "
                "`pretrained`"
            )
        stated = {
            name: replace(table, pretrained=pretrained) if table.pretrained else table
            for name, table in stated.items()
        }
    found: dict[str, TeacherSource] = {}
    for name, table in stated.items():
        if name not in asked:
            continue
        try:
            found[name] = table.source(data)
        except InputError as error:
            raise InputError(f"teacher {name!r}: {error}") from None
    return found


def _table(name: str, table: object) -> TeacherTable:
    check_name(name, "a teacher")
    require("teacher's name", name, name != NO_TEACHER, f"another one than {NO_TEACHER!r}")
    return read(TeacherTable, table, f"teacher {name!r}")


def check_teachers(named: Mapping[str, TeacherSource], data: Data) -> None:
    """Raise InputError for a teacher that cannot be read, or cannot be made for the data."""
    for its in named.values():
        if isinstance(its, TeacherFiles):
            its.read(data)
        else:
            teachers.untrained(its.network, its.seen(data))


def is_cached(path: Path) -> bool:
    return path.exists() and path.with_suffix(".json").exists()


def keep_teachers(folder: Folder, own: Mapping[str, Teacher]) -> dict[str, Teacher]:
    """A study's own copies, to be written before the study: what can be resumed has them.

    Returns:
        The teachers as the study asks them: about photographs of their own size.
    """
    kept = {}
    for name, teacher in own.items():
        path = folder.teacher(name)
        kept[name] = teachers.keep(path, teacher, teacher.info.size)
        folder.keep(*(str(file.relative_to(folder.path)) for file in teachers.files(path)))
    return kept


def fetch_teacher(folder: Folder, name: str) -> Path:
    """Where the study's own copy of a teacher lies; its files are here, if its store has them."""
    path = folder.teacher(name)
    if folder.store is not None:
        for file in teachers.files(path):  # a description comes before it is read
            folder.fetch(str(file.relative_to(folder.path)))
    return path


def _digest(path: str) -> str:
    try:
        return file_fingerprint(Path(path), DIGITS)
    except OSError as error:
        raise InputError(f"weights {path} cannot be read: {error.strerror}") from None
