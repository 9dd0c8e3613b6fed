"""Architectures as data: stem, stages, head; a JSON round trip; a canonical form.

An `Architecture` says everything about the network and nothing about its weights. What it
means layer by layer stands in `space.layers`, the only reader of these fields.
"""

import json
from dataclasses import MISSING, dataclass, field, fields, replace

from space.errors import InputError, require, require_one_of, require_range, shown
from space.fingerprint import fingerprint
from space.schema import as_table, read

SCHEMA = 1

# Which optional settings each block type reads; `canonical` resets the others.
BLOCK_SETTINGS: dict[str, frozenset[str]] = {
    "conv": frozenset({"residual"}),
    "depthwise": frozenset({"residual"}),
    "depthwise-bare": frozenset({"residual"}),
    "inverted": frozenset({"residual", "expansion"}),
    "group": frozenset({"residual", "groups", "shuffle"}),
    "residual": frozenset(),
    "fused": frozenset({"residual", "expansion"}),
    "ghost": frozenset({"residual", "expansion"}),
    "split": frozenset({"residual", "expansion"}),
}
# Equal parts that a block divides its channels into: widths on both sides are multiples of them.
CHANNEL_PARTS = {"ghost": 2, "split": 4}
OPTIONAL_SETTINGS = ("residual", "expansion", "groups", "shuffle")
UNGROUPED = {"group": "conv"}  # what a block is that has one group
ACTIVATIONS = ("relu", "relu6", "hardswish", "silu")
DOWNSAMPLES = ("stride", "maxpool")

# Beyond these nothing is trained; they keep a tampered file from asking for endless work.
MAX_WIDTH = 65_536
MAX_DEPTH = 64
MAX_CLASSES = 100_000
LARGEST = {
    "width": MAX_WIDTH,
    "depth": MAX_DEPTH,
    "groups": MAX_WIDTH,
    "expansion": 64,
    "kernel": 31,
    "repeat": 16,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Stage:
    """`depth` blocks of one type at one width; the first block changes width and resolution."""

    width: int  # output channels of every block
    block: str = "conv"  # a key of BLOCK_SETTINGS
    depth: int = 1  # blocks
    stride: int = 1  # of the first block
    kernel: int = 3  # odd; of the spatial convolutions
    groups: int = 1  # of the convolutions; must divide the widths on both sides
    shuffle: bool = False  # channel shuffle after each group convolution (ShuffleNet)
    expansion: int = 1  # hidden width / input width of "inverted" and its kind
    se: int = 0  # squeeze-and-excitation reduction; 0: none
    residual: bool = False  # identity shortcut around every block but the first
    activation: str = "relu"
    downsample: str = "stride"  # or "maxpool" after the first block
    repeat: int = 1  # times that every block but the first is applied, with the same weights

    @property
    def channel_groups(self) -> int:
        """What the widths on both sides must be multiples of: 1 where the block has no groups."""
        reads_groups = "groups" in BLOCK_SETTINGS[self.block]
        return self.groups if reads_groups else CHANNEL_PARTS.get(self.block, 1)

    def canonical(self) -> "Stage":
        """The same blocks with every setting that has no effect at its default."""
        stage = self
        if stage.groups == 1:
            stage = replace(stage, block=UNGROUPED.get(stage.block, stage.block))
        reads = BLOCK_SETTINGS[stage.block]
        unread = {name: _DEFAULTS[name] for name in OPTIONAL_SETTINGS if name not in reads}
        stage = replace(stage, **unread)
        if stage.depth == 1:
            stage = replace(stage, residual=False, repeat=1)
        if stage.stride == 1:
            stage = replace(stage, downsample="stride")
        return stage

    def at_width(self) -> "Stage":
        """Canonical, and without what has no effect at just this width.

        Apart from `canonical` because the widths of a shape are yet to be solved.
        """
        stage = self.canonical()
        if stage.groups == stage.width:  # a shuffle of groups of one channel moves nothing
            stage = replace(stage, shuffle=False)
        if stage.se:  # several reductions round to one hidden width: take the smallest of them
            hidden = se_width(stage.width, stage.se)
            same = (r for r in range(1, stage.se) if se_width(stage.width, r) == hidden)
            stage = replace(stage, se=next(same, stage.se))
        return stage


def se_width(channels: int, reduction: int) -> int:
    """Hidden width of squeeze-and-excitation; monotone in `channels`."""
    return max(4, round(channels / reduction))


_DEFAULTS = {f.name: f.default for f in fields(Stage) if f.default is not MISSING}


@dataclass(frozen=True, slots=True, kw_only=True)
class Head:
    """An optional 1x1 convolution, then global average pooling and the linear classifier."""

    width: int = 0  # channels of the 1x1 convolution; 0: none
    activation: str = "relu"


@dataclass(frozen=True, slots=True, kw_only=True)
class Architecture:
    """A student network, whole.

    `stem` is a stage of its own: a plain convolution unless the space lets compressed blocks
    start from the first layer.
    """

    stem: Stage
    stages: tuple[Stage, ...]
    classes: int
    channels: int = 3  # of the input image
    head: Head = field(default_factory=Head)
    bias: bool = False  # convolutions followed by batch norm keep a bias of their own

    @property
    def widths(self) -> tuple[int, ...]:
        """Width of the stem, of every stage, and of the head's convolution where there is one."""
        head = (self.head.width,) if self.head.width else ()
        return (self.stem.width, *(stage.width for stage in self.stages), *head)

    def with_widths(self, widths: tuple[int, ...]) -> "Architecture":
        """The same architecture at other widths, ordered as in `widths`."""
        count = 1 + len(self.stages)
        if len(widths) != len(self.widths):
            raise InputError(f"widths must be {len(self.widths)} numbers, but got {len(widths)}")
        return replace(
            self,
            stem=replace(self.stem, width=widths[0]),
            stages=tuple(
                replace(stage, width=width)
                for stage, width in zip(self.stages, widths[1:count], strict=True)
            ),
            head=replace(self.head, width=widths[count]) if self.head.width else self.head,
        )

    def canonical(self) -> "Architecture":
        """The same network with every setting that has no effect at its default."""
        return replace(
            self,
            stem=self.stem.canonical(),
            stages=tuple(stage.canonical() for stage in self.stages),
            head=self.head if self.head.width else Head(),
        )

    def to_dict(self) -> dict[str, object]:
        """JSON data: settings at their defaults are left out."""
        return {
            "schema": SCHEMA,
            "classes": self.classes,
            **({"channels": self.channels} if self.channels != 3 else {}),
            **({"bias": True} if self.bias else {}),
            "stem": without_defaults(self.stem),
            "stages": [without_defaults(stage) for stage in self.stages],
            **({"head": without_defaults(self.head)} if self.head != Head() else {}),
        }

    def to_json(self) -> str:
        """One line of JSON without spaces."""
        return json.dumps(self.to_dict(), separators=(",", ":"))

    @classmethod
    def from_dict(cls, data: object) -> "Architecture":
        """Read `to_dict`'s data back.

        Raises:
            InputError: another schema, an unknown or missing setting, a value outside its rule.
        """
        given = dict(as_table(data, "an architecture"))
        schema = given.pop("schema", None)
        if schema != SCHEMA:
            raise InputError(
                f"architecture schema must be {SCHEMA}, but got {shown(schema)}; "
                "write the file again with this version of DistilNAS"
            )
        architecture = read(cls, given, "architecture")
        architecture.check()
        return architecture

    @classmethod
    def from_json(cls, text: str) -> "Architecture":
        """Read `to_json`'s text back; raises InputError as `from_dict` does."""
        try:
            data = json.loads(text)
        except (ValueError, RecursionError) as error:
            raise InputError(f"an architecture must be JSON, but {error}") from None
        return cls.from_dict(data)

    @property
    def fingerprint(self) -> str:
        """Twelve hexadecimal digits, equal for architectures that are the same network."""
        network = replace(
            self.canonical(),
            stem=self.stem.at_width(),
            stages=tuple(stage.at_width() for stage in self.stages),
        )
        return fingerprint(network.to_json())

    @property
    def words(self) -> str:
        """The architecture in one line, e.g. `conv 16 | 2x depthwise 32 /2 se4 | ...`."""
        stages = (self.stem, *self.stages)
        head = [f"head {self.head.width}"] if self.head.width else []
        return " | ".join([_stage_words(stage.canonical()) for stage in stages] + head)

    def check(self) -> None:
        """Raise InputError, naming the stage, if this is not a network that can be built."""
        require_range("classes", self.classes, 2, MAX_CLASSES)
        require("channels", self.channels, self.channels in (1, 3), "1 or 3")
        require_range("number of stages", len(self.stages), 1, MAX_DEPTH)
        require_range("head width", self.head.width, 0, MAX_WIDTH)
        require_one_of("head activation", self.head.activation, ACTIVATIONS)
        inputs = self.channels
        for index, stage in enumerate((self.stem, *self.stages)):
            _check_stage(f"stage {index}" if index else "stem", stage, inputs)
            inputs = stage.width


def check_settings(name: str, stage: Stage) -> None:
    """Raise InputError for a setting of a stage that is outside its rule at any widths."""
    require_one_of(f"{name}: block", stage.block, BLOCK_SETTINGS)
    require_one_of(f"{name}: activation", stage.activation, ACTIVATIONS)
    require_one_of(f"{name}: downsample", stage.downsample, DOWNSAMPLES)
    for setting, largest in LARGEST.items():
        require_range(f"{name}: {setting}", getattr(stage, setting), 1, largest)
    require(f"{name}: stride", stage.stride, stage.stride in (1, 2), "1 or 2")
    require(f"{name}: kernel", stage.kernel, stage.kernel % 2 == 1, "odd")
    require_range(f"{name}: se", stage.se, 0, MAX_WIDTH)


def _check_stage(name: str, stage: Stage, inputs: int) -> None:
    check_settings(name, stage)
    groups = stage.channel_groups
    if stage.width % groups or inputs % groups:
        what = f"the parts of {stage.block!r}" if stage.block in CHANNEL_PARTS else "groups"
        raise InputError(
            f"{name}: {what} must divide the widths on both sides, but {groups} groups, "
            f"{inputs} inputs, {stage.width} outputs; choose widths that are multiples of {groups}"
        )


def without_defaults(part: Stage | Head) -> dict[str, object]:
    """JSON data of a part of an architecture."""
    pairs = ((f.name, getattr(part, f.name), f.default) for f in fields(part))
    return {name: value for name, value, default in pairs if value != default}


def _stage_words(stage: Stage) -> str:
    details = [
        f"k{stage.kernel}" if stage.kernel != 3 else "",
        f"g{stage.groups}" if stage.groups != 1 else "",
        "shuffle" if stage.shuffle else "",
        f"e{stage.expansion}" if stage.expansion != 1 else "",
        f"se{stage.se}" if stage.se else "",
        "skip" if stage.residual else "",
        f"r{stage.repeat}" if stage.repeat != 1 else "",
        f"/{stage.stride}" if stage.stride != 1 else "",
    ]
    depth = f"{stage.depth}x " if stage.depth > 1 else ""
    return " ".join([f"{depth}{stage.block} {stage.width}", *filter(None, details)])
