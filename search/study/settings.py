"""What a search is asked for: a TOML file, overridden by flags, over defaults."""

import os
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from search.database.address import DEFAULT_STORAGE, at_home
from search.database.leases import GRACE
from search.study.folder import DEFAULT_CACHE, cache_folder, check_name
from search.study.limits import asked_limits
from search.study.naming import plain_name
from search.study.pruners import PRUNERS
from search.study.samplers import SAMPLERS
from space.choices import choices, with_sizes
from space.errors import InputError, require, require_one_of, shown
from space.schema import Table, read
from space.solver import Budget
from trainers.data.layouts import DIGITS
from trainers.ranges import FORMAT, Ranges, with_values
from trainers.recipe import Recipe
from trainers.recipe import recipe as named_recipe

HERE, RAY = "here", "ray"  # where to train
NO_TEACHER = "none"
AUTO = "auto"
TEACHER_MIXES = ("probabilities", "logits")  # `trainers.teachers.ensemble.MIXES`, without torch


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """Every setting of `distilnas search`; the names are those of the flags and of the TOML."""

    data: str = DIGITS  # or a folder of photographs
    unlabelled: str | None = None  # a folder of photographs without labels, to train on too
    size: int | None = None  # pixels; 64 for photographs, 8 for digits
    sizes: tuple[int, ...] | None = None  # to choose from, in place of the space's `sizes`
    budget: str = "20KB"
    format: str = "int8"
    macs: str | None = None  # a further limit: multiply-accumulates an image
    ram: str | None = None  # a further limit: bytes of live activations, in int8
    space: str | Table = "mixed"  # a name, or a table (`space.choices`)
    compressed_stem: bool = False
    multiple: int = 4  # of every width
    # A file or several, which are asked as one; a network's name to train; or "none".
    teacher: str | tuple[str, ...] | None = None
    teacher_mix: str = TEACHER_MIXES[0]  # how the answers of several become one
    teacher_epochs: int | None = None
    recipe: str | Table | None = None  # a name, or a table with `base` and settings
    epochs: int | None = None
    search: Table | None = None  # what of the recipe is searched too (`trainers.ranges`)
    trials: int = 16
    finalists: int = 0  # best students that are trained again over three further seeds
    sampler: str = "tpe"
    pruner: str = "halving"
    seed: int = 0
    name: str | None = None
    storage: str = DEFAULT_STORAGE
    cache: str = DEFAULT_CACHE  # decoded photographs, teachers, banks of logits
    device: str = "auto"
    workers: int | str = 1  # students at once, or "auto"; the machine's business, not the study's
    out: str | None = None  # a copy of the best file
    artifacts: str | None = None  # folder or s3://..., for all workers, of the studies' files
    timeout: str | None = None  # 90s, 30min, 2h, 1d: that the study is worked on
    gpu_hours: float | None = None  # of all devices that train for the study
    on: str = HERE  # or ray, or ray://HEAD:PORT
    gpus_per_worker: float | None = None  # on Ray
    grace: float = GRACE  # seconds without a sign of life after which others take over

    def check(self) -> None:
        """Raise InputError for a setting outside its rule."""
        Budget.parse(self.budget, self.format, self.macs, self.ram)
        if self.sizes is not None:
            rule = "a list of pixels, e.g. 48,64,96"
            require("sizes", list(self.sizes), bool(self.sizes), rule)
        if self.sizes_asked and self.size is not None:
            raise InputError(
                f"size and sizes cannot be stated together, but got size {self.size} and sizes "
                f"{shown(list(self.sizes_asked))}; leave one out"
            )
        require("teacher", self.teacher, self.teacher != (), "a name, a file or a list of files")
        require_one_of("teacher_mix", self.teacher_mix, TEACHER_MIXES)
        require_one_of("sampler", self.sampler, SAMPLERS)
        require_one_of("pruner", self.pruner, PRUNERS)
        require("trials", self.trials, self.trials >= 1, "at least 1")
        require("finalists", self.finalists, self.finalists >= 0, "at least 0")
        parse_workers(self.workers)
        parse_grace(self.grace)
        parse_backend(self.on)
        asked_limits(self.timeout, self.gpu_hours)
        require("multiple", self.multiple, self.multiple >= 1, "at least 1")
        if self.name is not None:
            check_name(self.name)
        self.searched.check(self.training(), taught=self.teachers != (NO_TEACHER,))
        if self.unlabelled is not None and not self.needs_teacher:
            raise unheard(self.unlabelled)

    @property
    def stated_space(self) -> str | Table:
        """The space as the study keeps it: input sizes to choose from are part of it."""
        return self.space if self.sizes is None else with_sizes(self.space, self.sizes)

    @property
    def sizes_asked(self) -> tuple[int, ...]:
        """Input sizes to choose from, the smallest first; none where `size` is the only one."""
        return choices(self.stated_space).sizes

    @property
    def limit(self) -> Budget:
        """The budget, in the first of the storage formats."""
        return Budget.parse(self.budget, self.formats[0], self.macs, self.ram)

    @property
    def formats(self) -> tuple[str, ...]:
        """Storage formats: one, unless they are searched."""
        return self._stated.formats or (self.format,)

    @property
    def searched(self) -> Ranges:
        """What trials draw of the recipe and the format."""
        return self._stated.varied

    @property
    def _stated(self) -> Ranges:
        return Ranges.from_dict(self.search or {})

    @property
    def teachers(self) -> tuple[str, ...]:
        """What is stated of teachers: one name or file, or several files; () where nothing is."""
        stated = self.teacher or ()
        return (stated,) if isinstance(stated, str) else stated

    @property
    def needs_teacher(self) -> bool:
        """Whether some student listens to a teacher."""
        return self.teachers != (NO_TEACHER,) and self.searched.needs_teacher(self.training())

    @property
    def limits(self) -> dict[str, float]:
        """The study's attributes of what it may cost."""
        return asked_limits(self.timeout, self.gpu_hours)

    @property
    def default_name(self) -> str:
        where = DIGITS if self.data == DIGITS else Path(self.data).resolve().name
        size = "-".join((self.budget, *self.formats)).replace(" ", "")
        return f"{plain_name(where, 'photos')}-{plain_name(size, 'budget')}"

    @property
    def cache_folder(self) -> Path:
        return cache_folder(self.cache)

    def training(self) -> Recipe:
        """The students' recipe, as far as it is not searched."""
        recipe = training_recipe(self.data, self.recipe, self.epochs)
        recipe = with_values(recipe, self._stated.fixed)
        if self.teachers == (NO_TEACHER,):
            recipe = recipe.with_settings({"phases": [[0.0, 0.0]]})
        return recipe

    def teaching(self) -> Recipe:
        """The recipe of a teacher that the search trains itself."""
        return teacher_recipe(self.data, self.teacher_epochs)

    @property
    def teacher_network(self) -> str:
        """The network to train where no file is given."""
        return next(iter(self.teachers), default_network(self.data))


def unheard(unlabelled: str) -> InputError:
    """What to say where nobody listens to a teacher, and so nobody learns without labels."""
    return InputError(
        "photographs without labels need a teacher and a recipe with a soft share, but no student "
        f"would listen to one about {unlabelled}; leave it out, or change --teacher or the phases"
    )


def training_recipe(data: str, given: str | Table | None, epochs: int | None) -> Recipe:
    """Students' recipe for some data: a name, or a table with `base` and settings over it."""
    recipe = stated_recipe(given, default_recipe(data))
    return recipe if epochs is None else recipe.with_settings({"epochs": epochs})


def default_recipe(data: str) -> str:
    """Name of the recipe where none is given."""
    return "digits" if data == DIGITS else "default"


def stated_recipe(given: object, base: str) -> Recipe:
    """A recipe's name, or a table with `base` and settings over it.

    Args:
        base: name of the recipe where none is given.
    """
    if given is not None and not isinstance(given, str | Mapping):
        raise InputError(f"recipe must be a recipe's name or a table, but got {shown(given)}")
    settings: dict[str, object] = {"base": given} if isinstance(given, str) else {**(given or {})}
    stated = settings.pop("base", base)
    if not isinstance(stated, str):
        raise InputError(f"recipe base must be a recipe's name, but got {shown(stated)}")
    return named_recipe(stated).with_settings(settings)


def teacher_recipe(data: str, epochs: int | None = None) -> Recipe:
    """The recipe of a teacher from scratch."""
    recipe = named_recipe(teacher_base(data))
    return recipe if epochs is None else recipe.with_settings({"epochs": epochs})


def teacher_base(data: str) -> str:
    """Name of that recipe."""
    return "teacher-digits" if data == DIGITS else "teacher-scratch"


def default_network(data: str) -> str:
    """The network of a teacher that is trained where none is named."""
    return "teacher-small" if data == DIGITS else "resnet18"


def parse_backend(on: str | None) -> str:
    """Where to train: here where nothing is given; InputError for what is no place."""
    given = HERE if on is None else on
    valid = given in (HERE, RAY) or given.startswith("ray://")
    require("on", on, valid, f"{HERE}, {RAY} or ray://HEAD:PORT")
    return given


def parse_grace(seconds: float | None) -> float:
    """The default where none is given; InputError outside its rule."""
    given = GRACE if seconds is None else float(seconds)
    require("grace", seconds, 1 <= given <= 86400, "1 to 86400 seconds")
    return given


def parse_workers(given: int | str) -> int | None:
    """Students that are trained at once; None for `auto`.

    Raises:
        InputError: it is neither a number of them nor `auto`.
    """
    text = str(given).strip()
    if text == AUTO:
        return None
    number = int(text) if text.isascii() and text.isdigit() else 0
    require("--parallel", given, number >= 1, f"at least 1, or {AUTO!r} to have it measured")
    return number


def resolve(config: Path | None, flags: Table) -> Settings:
    """Defaults, then the TOML file, then the flags that were given (not None).

    Raises:
        InputError: the file cannot be read, or a setting is unknown or outside its rule.
    """
    settings = Settings()
    document = {} if config is None else read_toml(config)
    if config is not None:
        settings = read(Settings, document, str(config), over=settings)
    given = {name: value for name, value in flags.items() if value is not None}
    settings = read(Settings, given, "flags", over=settings)
    if FORMAT in (settings.search or {}) and FORMAT in (document | given):
        raise InputError(
            f"format must be stated once, but {config} has it in [search] too; leave one out"
        )
    settings.check()
    return settings


def read_toml(path: Path) -> dict[str, object]:
    """A TOML file's content, in which relative paths count from the working directory."""
    try:
        document = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise InputError(
            f"settings {path} cannot be read: {os.strerror(error.errno or 0)}"
        ) from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise InputError(f"settings {path} must be TOML, but: {error}") from None
    return {name: _at_home(value) for name, value in document.items()}


def _at_home(value: object) -> object:
    """Paths may begin with `~`; nothing else does."""
    if isinstance(value, dict):
        return {name: _at_home(inner) for name, inner in value.items()}
    if isinstance(value, list):
        return [_at_home(inner) for inner in value]
    return at_home(value) if isinstance(value, str) else value
