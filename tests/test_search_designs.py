"""Designs of ablations: from a TOML file to arms, and what a wrong one is told."""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import optuna
import pytest
import tiny
from commands import ROOT, Answer, inside, refused
from hypothesis import given
from hypothesis import strategies as st

from search.ablation.arms import Resolved
from search.ablation.design import read_design
from search.commands.ablate import make_plan
from search.study.plan import AblationSpec, Arm
from search.terminal.plan import stored, twin
from search.training.teacher_cache import named_teachers
from space.count import macs
from space.errors import InputError
from trainers.data.datasets import Data, load
from trainers.policies import POLICIES
from trainers.recipe import HARD_ONLY
from trainers.recipe import recipe as named_recipe
from trainers.teachers import teacher as teachers

FILES = sorted((ROOT / "ablations").glob("*.toml"))
SHORT = "epochs = 1\nseeds = 1\n"
TOP = f'budget = "8KB"\n{SHORT}'
TWO = "[factors]\nse = [4, 0]\n"
FINE_TUNED = '[teachers.fine]\nnetwork = "resnet18"\npretrained = "imagenet"\n'


@dataclass(frozen=True)
class Planned:
    plan: AblationSpec
    resolved: Resolved

    @property
    def names(self) -> list[str]:
        return [arm.name for arm in self.plan.arms]

    @property
    def shares(self) -> list[float | None]:
        return [arm.budget_share for arm in self.plan.arms]

    def __getitem__(self, name: str) -> Arm:
        """The arm of that name."""
        return next(arm for arm in self.plan.arms if arm.name == name)


def spec(rest: str = TWO, *, top: str = TOP, baseline: str = "") -> str:
    return f'{top}\n[baseline]\narchitecture = "digits-student"\n{baseline}\n{rest}'


def planned(file: Path, data: Data, quick: bool = False, /, **flags: Any) -> Planned:
    design = read_design(file, quick, flags, str(file.parent / "studies.db"))
    named = named_teachers(design.data, design.teacher_tables, None, design.asked)
    return Planned(*make_plan(design, data, named, tiny.CPU))


@pytest.fixture(scope="module")
def digits(tmp_path_factory: pytest.TempPathFactory) -> Data:
    return load("digits", cache=tmp_path_factory.mktemp("cache"))


@pytest.fixture
def plan_of(tmp_path: Path, digits: Data) -> Callable[..., Planned]:
    """`plan_of(text)`: the plan of a file with that text, on the digits."""

    def make(text: str, quick: bool = False, **flags: Any) -> Planned:
        file = tmp_path / "a.toml"
        file.write_text(text)
        return planned(file, digits, quick, **flags)

    return make


@pytest.fixture
def photos(tmp_path: Path, make_folder: Callable[..., Path]) -> Path:
    counts = {"train/cake/{}.jpg": 6, "train/soup/{}.jpg": 6}
    return make_folder(tmp_path / "photos", counts)


def test_the_baselines_own_level_is_the_baseline(plan_of: Callable[..., Planned]) -> None:
    for levels in ("[4, 0, 8]", "[0, 4, 8]"):
        found = plan_of(spec(f"[factors]\nse = {levels}\n"))
        assert found.names == ["se=4", "se=0", "se=8"]
        assert found.plan.baseline == "se=4"
        assert [arm.levels for arm in found.plan.arms] == [{"se": "4"}, {"se": "0"}, {"se": "8"}]
        assert found.plan.factors == {"se": ("4", "0", "8")}
        assert not found.resolved.impossible


def test_several_factors_are_changed_one_at_a_time(plan_of: Callable[..., Planned]) -> None:
    found = plan_of(spec("[factors]\nse = [0, 4]\nkernel = [3, 5]\nactivation = ['silu']\n"))
    assert found.names == ["baseline", "se=0", "kernel=5", "activation=silu"]
    assert found.plan.baseline == "baseline"
    assert [tuple(arm.levels.values()) for arm in found.plan.arms] == [
        ("4", "3", "(baseline)"),
        ("0", "3", "(baseline)"),
        ("4", "5", "(baseline)"),
        ("4", "3", "silu"),
    ]
    assert found.plan.factors["activation"] == ("(baseline)", "silu")
    assert {stage.se for stage in found["se=0"].architecture.stages} == {0}
    assert {stage.kernel for stage in found["se=0"].architecture.stages} == {3}


def test_a_factor_without_the_baselines_level(plan_of: Callable[..., Planned]) -> None:
    found = plan_of(spec("[factors]\nse = [0, 8]\n"))
    assert found.names == ["baseline", "se=0", "se=8"]
    assert found.plan.factors == {"se": ("(baseline)", "0", "8")}
    named = plan_of(spec(baseline='name = "as in the report"'))
    assert named.names == ["as in the report", "se=0"]
    assert named.plan.baseline == "as in the report"


def test_a_factorial_design_has_all_combinations(plan_of: Callable[..., Planned]) -> None:
    factors = "[factors]\nse = { off = 0, on = 4 }\nkernel = [5, 3]\n"
    found = plan_of(spec(factors, top=TOP + 'design = "factorial"'))
    assert found.names == [f"se={se}, kernel={k}" for se in ("off", "on") for k in (5, 3)]
    assert found.plan.baseline == "se=on, kernel=3"
    assert found.plan.factors == {"se": ("off", "on"), "kernel": ("5", "3")}
    assert [arm.levels["kernel"] for arm in found.plan.arms] == ["5", "3", "5", "3"]
    without = plan_of(spec("[factors]\nse = [0, 8]\n", top=TOP + 'design = "factorial"'))
    assert without.names == ["se=0", "se=8"]
    assert without.plan.baseline == "se=0"


def test_stated_arms_follow_the_baseline(plan_of: Callable[..., Planned]) -> None:
    arms = '[[arms]]\nname = "wide"\nprofile = 1\nlr = 0.3\n[[arms]]\nname = "bare"\nse = 0\n'
    found = plan_of(spec(arms, top=TOP + 'design = "arms"'))
    assert found.names == ["baseline", "wide", "bare"]
    assert found.plan.baseline == "baseline"
    assert all(arm.levels == {} for arm in found.plan.arms)
    assert found["wide"].recipe == replace(found["bare"].recipe, lr=0.3)
    assert found["wide"].architecture.stages[0].se == 4


def test_a_factor_of_ones_own_changes_several_settings(plan_of: Callable[..., Planned]) -> None:
    levels = '"light" = { late_block = "conv", lr = 0.3 }\nplain = {}\n'
    found = plan_of(spec("[factors.diet]\n" + levels))
    assert found.names == ["diet=plain", "diet=light"]
    light, plain = found["diet=light"], found["diet=plain"]
    assert light.recipe == replace(plain.recipe, lr=0.3)
    blocks = [[stage.block for stage in arm.architecture.stages] for arm in (plain, light)]
    assert blocks == [["depthwise", "depthwise", "group"], ["depthwise", "depthwise", "conv"]]


def test_settings_stand_over_those_of_the_baseline(plan_of: Callable[..., Planned]) -> None:
    baseline = 'augment = "light"\nlr = 0.3\nstem = "depthwise"'
    factors = "[factors]\naugment = { same = {}, turned = { rotation = 20 } }\n"
    found = plan_of(spec(factors, baseline=baseline))
    same, turned = found["augment=same"].recipe, found["augment=turned"].recipe
    assert same.augment == POLICIES["light"]
    assert turned == replace(same, augment=replace(POLICIES["light"], rotation=20.0))
    assert same.lr == 0.3
    assert {arm.architecture.stem.block for arm in found.plan.arms} == {"depthwise"}
    table = 'recipe = { base = "report-adam", epochs = 7, augment.flip = 0.25 }\n'
    (arm, _) = plan_of(spec(top=table)).plan.arms
    expected = named_recipe("report-adam").with_settings({"epochs": 7, "augment": {"flip": 0.25}})
    assert arm.recipe == replace(expected, precision=arm.recipe.precision)
    assert arm.recipe.precision != "auto"


def test_settings_of_the_augmentation_are_factors(plan_of: Callable[..., Planned]) -> None:
    """By names with a dot, which TOML reads as tables; over the baseline's, and each other."""
    factors = "[factors]\naugment.cutmix = [0, 1]\naugment.flip = [0, 0.5]\n"
    factorial = TOP + 'design = "factorial"\n'
    found = plan_of(spec(factors, top=factorial, baseline='augment = "light"'))
    light = POLICIES["light"]
    assert [arm.recipe.augment for arm in found.plan.arms] == [
        replace(light, cutmix=cutmix, flip=flip) for cutmix in (0, 1) for flip in (0, 0.5)
    ]
    assert dict(found.plan.factors) == {
        "augment.cutmix": ("0", "1"),
        "augment.flip": ("0", "0.5"),
    }
    labelled = '[factors]\n"augment.cutmix" = { off = 0, on = 1 }\n'
    assert plan_of(spec(labelled)).names == ["augment.cutmix=off", "augment.cutmix=on"]


@pytest.mark.parametrize(
    ("baseline", "changes", "phases"),
    [
        ([[0, 0.5]], "mix = 0.25", ((0, 0.25),)),
        ([[0, 0.5], [0.625, 0]], "mix = 1", ((0, 1), (0.625, 0))),
        ([[0, 0.5]], "mix = 0", ((0, 0),)),
        ([[0, 0.5]], "switch = 0.4", ((0, 0.5), (0.4, 0))),
        ([[0, 0.5], [0.625, 0]], "switch = 0.25", ((0, 0.5), (0.25, 0))),
        ([[0, 0.5], [0.625, 0]], "switch = 1", ((0, 0.5),)),
        ([[0, 0.5], [0.2, 0.9], [0.6, 0.1]], "switch = 0.5", ((0, 0.5), (0.2, 0.9), (0.5, 0))),
        ([[0, 0.5]], "mix = 0.3, switch = 0.5", ((0, 0.3), (0.5, 0))),
        ([[0, 0.5]], "phases = [[0, 1]], switch = 0.5", ((0, 1), (0.5, 0))),
        ([[0, 0], [0.5, 1]], "switch = 0.8", ((0, 0), (0.5, 1), (0.8, 0))),
    ],
    ids=str,
)
def test_mix_and_switch_change_the_phases(
    plan_of: Callable[..., Planned], baseline: Any, changes: str, phases: Any
) -> None:
    factors = f"[factors.supervision]\nchanged = {{ {changes} }}\nhard = {{ phases = [[0, 0]] }}\n"
    found = plan_of(spec(factors, baseline=f"phases = {baseline}"))
    assert not found.resolved.impossible
    arms = {arm.levels["supervision"]: arm for arm in found.plan.arms}
    assert arms["changed"].recipe.phases == phases
    assert (arms["changed"].teacher is None) == all(share == 0 for _, share in phases)


def test_losses_are_compared_at_their_authors_settings(plan_of: Callable[..., Planned]) -> None:
    """Unless the baseline states others, which then hold for all."""
    losses = "[factors]\nloss = ['kd', 'kd-standardised', 'dkd']\n"
    found = plan_of(spec(losses))
    arms = [found[f"loss={name}"].recipe for name in ("kd", "kd-standardised", "dkd")]
    assert [recipe.temperature for recipe in arms] == [4.0, 2.0, 4.0]
    assert [recipe.phases for recipe in arms] == [((0, s),) for s in (0.9, 9 / 9.1, 0.5)]
    assert [recipe.beta for recipe in arms] == [8.0, 8.0, 2.0]
    assert found.plan.baseline == "baseline"  # the digits' recipe has a share of its own
    stated = plan_of(spec(losses, baseline="temperature = 3.0\nmix = 0.4\nbeta = 5.0")).plan
    assert stated.baseline == "loss=kd"
    assert {arm.recipe.temperature for arm in stated.arms} == {3.0}
    assert {arm.recipe.phases for arm in stated.arms} == {((0.0, 0.4),)}
    assert {arm.recipe.beta for arm in stated.arms} == {5.0}
    own = "[factors.taught]\nhot = { loss = 'kd', temperature = 9 }\nplain = { loss = 'kd' }\n"
    found = plan_of(spec(own, baseline="temperature = 3.0"))
    assert [arm.recipe.temperature for arm in found.plan.arms] == [3, 9, 3]


def test_without_a_teacher_the_labels_teach_alone(plan_of: Callable[..., Planned]) -> None:
    tables = '[teachers.a]\nnetwork = "teacher-small"\n[teachers.b]\nnetwork = "teacher-small"\n'
    found = plan_of(spec(tables + "[factors]\nteacher = ['none', 'b', 'a']\n"))
    assert found.plan.baseline == "teacher=a"  # the first is the default
    none, heard = found["teacher=none"], found["teacher=b"]
    assert (none.teacher, heard.teacher) == (None, "b")
    assert none.recipe == replace(heard.recipe, phases=HARD_ONLY)
    arms = '[[arms]]\nname = "x"\nteacher = "none"\n[[arms]]\nname = "y"\nphases = [[0, 0]]\n'
    same = plan_of(spec(tables + arms, top=TOP + 'design = "arms"'))
    assert [twin(same.plan, arm) for arm in same.plan.arms] == [None, None, "x"]
    nobody = plan_of(spec("[teachers]\n" + TWO))
    assert {arm.teacher for arm in nobody.plan.arms} == {None}


@pytest.mark.parametrize("format", ["int8", "fp16", "fp32"])
@pytest.mark.parametrize("budget", ["12KB", "30KiB", "300KB", "20k params"])
def test_size_matched_arms_fill_the_budget(
    plan_of: Callable[..., Planned], budget: str, format: str
) -> None:
    factors = (
        "[factors]\nblock = ['conv', 'depthwise', 'inverted', 'group', 'residual']\nse = [0, 8]\n"
        "late_block = ['depthwise']\nlate_groups = [2, 3, 7]\nprofile = [1, 1.5, [8, 8, 8, 40]]\n"
    )
    top = f'budget = "{budget}"\nformat = "{format}"'
    found = plan_of(spec(factors, top=top, baseline="depth = 1"))
    assert not found.resolved.impossible
    own = [label for label in found["baseline"].levels.values() if label != "(baseline)"]
    assert len(found.plan.arms) + len(own) == 15  # a profile may end in the baseline's widths
    limit = {"12KB": 12_000, "30KiB": 30_720, "300KB": 300_000}.get(budget)
    for arm in found.plan.arms:
        assert arm.budget_share is not None
        assert 0.97 <= arm.budget_share <= 1, arm.name
        assert limit is None or 0.97 * limit <= stored(found.plan, arm) <= limit, arm.name


def test_without_a_budget_it_is_what_the_baseline_takes(plan_of: Callable[..., Planned]) -> None:
    own = plan_of(spec(TWO, top='widths = "fixed"'))
    limit = stored(own.plan, own["se=4"])
    found = plan_of(spec(TWO, top=""))
    assert found.plan.budget == "what the baseline takes"
    for arm in found.plan.arms:
        assert 0.97 * limit <= stored(found.plan, arm) <= limit


def test_a_limit_of_macs_holds_with_a_budget_and_without(plan_of: Callable[..., Planned]) -> None:
    for budget in ('budget = "30KB"', ""):
        found = plan_of(spec(TWO, top=f'{budget}\nmacs = "60k"'))
        for arm in found.plan.arms:
            assert macs(arm.architecture, found.plan.size) <= 60_000, budget


def test_the_budget_can_be_a_factor(plan_of: Callable[..., Planned]) -> None:
    found = plan_of(spec("[factors]\nbudget = ['8KB', '16KB', '5k params']\n"))
    assert found.names == ["budget=8KB", "budget=16KB", "budget=5k params"]
    sizes = [stored(found.plan, arm) for arm in found.plan.arms]
    assert 7_760 <= sizes[0] <= 8_000
    assert 15_520 <= sizes[1] <= 16_000
    assert all(0.97 <= share <= 1 for share in found.shares if share is not None)
    assert found.plan.budget == "8 KB in int8"


def test_fixed_widths_stay(plan_of: Callable[..., Planned]) -> None:
    found = plan_of(spec("[factors]\nse = [4, 0]\nformat = ['fp16']\n"), widths="fixed")
    assert {arm.architecture.widths for arm in found.plan.arms} == {(12, 24, 32, 48)}
    assert found.shares == [None] * 3
    assert (found.plan.size_matched, found.plan.budget) == (False, "")
    assert len({stored(found.plan, arm) for arm in found.plan.arms}) == 3
    with pytest.raises(InputError, match="--budget is for size-matched arms"):
        plan_of(spec(TWO), widths="fixed", budget="9KB")
    with pytest.raises(InputError, match="the budget varies in this design"):
        plan_of(spec("[factors]\nbudget = ['9KB', '8KB']\n"), widths="fixed")
    given = spec(TWO, baseline='budget = "9KB"', top='macs = "1k"')
    assert plan_of(given, widths="fixed").plan.budget == ""  # a file's counts no more


QUICK = """
budget = "30KB"
epochs = 9
recipe = "digits"
[baseline]
architecture = "digits-student"
se = 8
kernel = 5
[teachers.slow]
network = "resnet18"
[factors]
se = [8, 0]
depth = [1, 2]
[quick]
budget = "9KB"
baseline.se = 0
teachers.fast = { network = "teacher-small", epochs = 1 }
factors.residual = [true, false]
"""


def test_the_quick_table_stands_over_the_rest(plan_of: Callable[..., Planned]) -> None:
    found = plan_of(QUICK, quick=True)
    assert list(found.plan.factors) == ["residual"]
    assert found.plan.budget == "9 KB in int8"
    stages = found.plan.arms[0].architecture.stages
    assert {(stage.se, stage.kernel) for stage in stages} == {(0, 5)}
    assert found.plan.arms[0].teacher == "slow"
    assert found.plan.arms[0].recipe.epochs == 9
    whole = plan_of(QUICK)
    assert list(whole.plan.factors) == ["se", "depth"]
    assert whole.plan.budget == "30 KB in int8"


@pytest.mark.parametrize("quick", [True, False])
def test_flags_stand_over_both(plan_of: Callable[..., Planned], quick: bool) -> None:
    found = plan_of(QUICK, quick, budget="12KB", epochs=3, seeds=2)
    assert found.plan.budget == "12 KB in int8"
    assert {arm.recipe.epochs for arm in found.plan.arms} == {3}
    assert plan_of(QUICK, quick, budget=None, widths="fixed").plan.budget == ""


def test_a_flags_budget_is_never_ignored(plan_of: Callable[..., Planned]) -> None:
    """Where the baseline has one of its own it is replaced, or the flag is refused."""
    text = spec(TWO, top="", baseline='budget = "8KB"')
    try:
        found = plan_of(text, budget="16KB")
    except InputError:
        return
    assert all(15_520 <= stored(found.plan, arm) <= 16_000 for arm in found.plan.arms)


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_the_quick_variant_of_every_file_can_be_trained(file: Path, digits: Data) -> None:
    check_whole(planned(file, digits, True), file)


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_every_file_can_be_trained_on_photographs(
    file: Path, photos: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if "teachers:" in file.read_text():  # a network from the examples, as its comment says
        pytest.importorskip("efficientnet_lite_pytorch", reason="needs efficientnet-lite-pytorch")
        monkeypatch.syspath_prepend(str(ROOT / "docs" / "examples"))
    data = load(str(photos), 32, cache=cache, progress=False)
    check_whole(planned(file, data, False, data=str(photos), size=32), file)


def check_whole(found: Planned, file: Path) -> None:
    """Every arm is there, in its budget and not the same as another; its question is told."""
    assert not found.resolved.impossible
    assert len(found.plan.arms) >= 2
    assert found.plan.baseline in found.names
    assert found.plan.question.endswith("?")
    comment = file.read_text().partition("\nquestion")[0]
    assert comment.startswith("# ")
    assert "?" in comment
    assert f"ablate ablations/{file.name} --quick" in comment
    for arm in found.plan.arms:
        assert twin(found.plan, arm) is None
        assert (arm.budget_share is None) != found.plan.size_matched
        assert arm.budget_share is None or 0.97 <= arm.budget_share <= 1
    assert set(found.plan.published.get("accuracy", {})) <= set(found.names)
    assert AblationSpec.from_dict(json.loads(json.dumps(found.plan.to_dict()))) == found.plan


@pytest.mark.parametrize("name", ["teachers", "convolutions", "repeat"])
def test_a_file_can_be_looked_at_before_it_is_run(tmp_path: Path, photos: Path, name: str) -> None:
    file, flags = str(ROOT / f"ablations/{name}.toml"), ("--dry-run", "--json", "--cache", "cache")
    for variant in (("--quick",), ("--data", str(photos), "--size", "32")):
        answer = inside(tmp_path, "ablate", file, *variant, *flags)
        assert answer.status == 0, answer.err
        begun, data = answer.err.splitlines()  # and no warning
        assert begun.startswith("ablation ")
        assert data.endswith("pixels")
        assert answer.json["impossible"] == []
        assert 3 <= len(answer.json["arms"]) <= 6
        assert {arm["same_as"] for arm in answer.json["arms"]} == {None}
        assert answer.json["source"] == ("digits" if "--quick" in variant else str(photos))
    assert not (tmp_path / "studies.db").exists()
    assert not (tmp_path / "cache/teachers").exists()


def test_there_are_files() -> None:
    assert len(FILES) >= 10


def test_a_plan_is_read_back_as_it_was(plan_of: Callable[..., Planned]) -> None:
    published = '[published]\nsource = "somebody"\naccuracy = { "se=0" = 0.5, "se=4" = 1 }\n'
    for design in ("one-factor", "factorial"):
        factors = "[factors]\nse = [0, 4]\naugment = { a = { flip = 1 }, b = 'none' }\n"
        text = spec(factors + published, top=f'{TOP}design = "{design}"\nviews = "per-seed"')
        plan = plan_of(text).plan
        again = AblationSpec.from_dict(json.loads(json.dumps(plan.to_dict())))
        assert again == plan
        assert again.hash == plan.hash
    with pytest.raises(InputError, match="another version"):
        AblationSpec.from_dict(plan.to_dict() | {"schema": 99})


@pytest.fixture(scope="module")
def three_arms(tmp_path_factory: pytest.TempPathFactory, digits: Data) -> AblationSpec:
    file = tmp_path_factory.mktemp("arms") / "a.toml"
    file.write_text(spec("[factors]\nse = [0, 4, 8]\n"))
    return planned(file, digits).plan


@given(st.data(), st.integers(1, 40), st.integers(0, 40))
def test_trials_cover_every_arm_and_seed_once(
    three_arms: AblationSpec, data: st.DataObject, seeds: int, more: int
) -> None:
    count = data.draw(st.integers(1, 3))
    plan = replace(three_arms, arms=three_arms.arms[:count])
    trials = [plan.trial(number) for number in range(count * seeds)]
    pairs = [(arm.name, seed) for arm, seed in trials]
    assert sorted(pairs) == sorted((arm.name, k) for arm in plan.arms for k in range(seeds))
    further = [plan.trial(number) for number in range(count * (seeds + more))]
    assert further[: len(trials)] == trials
    assert {seed for _, seed in further[len(trials) :]} == set(range(seeds, seeds + more))


def test_a_seed_moves_the_weights_and_views_only_if_asked(three_arms: AblationSpec) -> None:
    arm = three_arms.arms[0]
    recipe = arm.recipe
    assert arm.recipe_of(3, shared_views=True) == replace(recipe, seed=recipe.seed + 3)
    moved = replace(recipe, seed=recipe.seed + 3, view_seed=recipe.view_seed + 3)
    assert arm.recipe_of(3, shared_views=False) == moved
    assert arm.recipe_of(0, shared_views=False) == recipe


def ablate(folder: Path, text: str, *arguments: str) -> Answer:
    (folder / "a.toml").write_text(text)
    return inside(folder, "ablate", "a.toml", "--cache", "cache", *arguments)


def test_a_dry_run_is_the_plan_and_trains_nothing(tmp_path: Path) -> None:
    text = spec(TWO, top=TOP + 'question = "Does SE [help]?"', baseline='teacher = "none"')
    flags = ("--dry-run", "--budget", "12KB", "--seeds", "4", "--epochs", "2")
    document: Mapping[str, Any] = ablate(tmp_path, text, *flags, "--json").json
    assert [arm["name"] for arm in document["arms"]] == ["se=4", "se=0"]
    assert [arm["recipe"]["epochs"] for arm in document["arms"]] == [2, 2]
    assert all(11_640 <= arm["bytes"] <= 12_000 for arm in document["arms"])
    assert (document["seeds"], document["baseline"]) == (4, "se=4")
    assert (document["impossible"], document["question"]) == ([], "Does SE [help]?")
    assert set(document["seconds"]) == {"students", "teachers", "logits"}
    shown = ablate(tmp_path, text, *flags)
    assert shown.status == 0
    for words in ("Does SE [help]?", "2 arms x 4 seeds", "12 KB in int8", "se=4 *", "8 trainings"):
        assert words in shown.out
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.toml"]


def test_arms_that_are_the_same_thing_are_told(tmp_path: Path) -> None:
    arms = '[[arms]]\nname = "a"\nse = 0\n[[arms]]\nname = "b"\nse = 0\ngroups = 4\n'
    text = spec(arms, top=TOP + 'design = "arms"', baseline='teacher = "none"')
    shown = ablate(tmp_path, text, "--dry-run")
    assert "'b' is the same student as 'a'" in shown.out
    document = ablate(tmp_path, text, "--dry-run", "--json").json
    assert [arm["same_as"] for arm in document["arms"]] == [None, None, "a"]


def test_an_impossible_arm_is_shown_in_the_plan(tmp_path: Path) -> None:
    text = spec("[factors]\nkernel = [3, 4]\n", baseline='teacher = "none"')
    answer = ablate(tmp_path, text, "--dry-run", "--json")
    refused(answer, "1 arm cannot exist", "kernel=4")
    (impossible,) = answer.json["impossible"]
    assert impossible["name"] == "kernel=4"
    assert "odd" in impossible["reason"]


def stated(arms: str) -> str:
    return spec(arms, top=TOP + 'design = "arms"')


def based_on(baseline: str) -> str:
    return f"{TOP}[baseline]\n{baseline}\n{TWO}"


def taught_by(table: str) -> str:
    return spec(f"[teachers.x]\n{table}\n{TWO}")


def factor(levels: str, **parts: str) -> str:
    return spec(f"[factors]\n{levels}\n", **parts)


WRONG: dict[str, tuple[str, tuple[str, ...], tuple[str, ...]]] = {
    "factor's name": (factor("blok = ['conv']"), (), ("blok", "block")),
    "factor with a scope": (factor("early_width = [4]"), (), ("early_width", "early_")),
    "no such stage": (factor("stage9_se = [0, 4]"), (), ("stage9_se", "1 to 3")),
    "odd stage number": (factor("stage01_se = [0, 4]"), (), ("stage01_se",)),
    "block": (factor("block = ['conv', 'nope']"), (), ("block=nope", "depthwise")),
    "baseline's block": (factor("se = [0, 4]", baseline="block = 'nope'"), (), ("nope", "conv")),
    "loss": (factor("loss = ['kd', 'nope']"), (), ("loss=nope", "dkd")),
    "format": (factor("format = ['fp8', 'int8']"), (), ("fp8", "fp16")),
    "augmentation": (factor("augment.colour = [0, 1]"), (), ("augment.colour", "augment.flip")),
    "mixed levels": (factor("augment = { cutmix = [0, 1], a = 'none' }"), (), ("augment.a",)),
    "cutmix": (factor("augment.cutmix = [0, -1]"), (), ("cutmix=-1", "cutmix must be from 0")),
    "policy": (factor("augment = ['none', 'nope']"), (), ("nope", "standard")),
    "type": (factor("se = [0, '4']"), (), ("se=4", "a whole number", "'4'")),
    "bool for int": (factor("se = [0, true]"), (), ("se=true", "a whole number")),
    "int for bool": (factor("residual = [0, 1]"), (), ("residual", "true or false")),
    "text for float": (factor("lr = ['fast']"), (), ("lr", "a number", "fast")),
    "number as budget": (factor("budget = [300]"), (), ("budget", "300KB")),
    "no groups": (factor("groups = [0, 4]"), (), ("groups=0", "groups must be")),
    "even kernel": (factor("kernel = [3, 4]"), (), ("kernel=4", "odd")),
    "no list": (factor("se = 4"), (), ("'se'", "list of levels")),
    "empty list": (factor("se = []"), (), ("'se'", "one level or more")),
    "empty table": (spec("[factors.se]\n"), (), ("'se'", "one level or more")),
    "repeated level": (factor("se = [4, 0, 4]"), (), ("'se'", "repetition")),
    "one arm": (factor("se = [4]"), (), ("arm",)),
    "factor named arm": (factor("arm = ['a', 'b']"), (), ("'arm'",)),
    "own factor named arm": (spec("[factors.arm]\na = { se = 0 }"), (), ("'arm'", "arm, seed")),
    "factor named seed": (factor("seed = [1, 2]"), (), ("'seed'",)),
    "own factor named seed": (spec("[factors.seed]\na = { se = 0 }"), (), ("'seed'", "arm, seed")),
    "setting of a level": (spec("[factors.x]\na = { colour = 1 }"), (), ("'x'", "'a'", "colour")),
    "label of two lines": (spec('[factors.x]\n"a\\nb" = { se = true }'), (), ("one line",)),
    "setting": (spec(top=TOP + "colour = 'red'"), (), ("colour", "budget")),
    "setting's type": (spec(top=TOP + "multiple = 1.5"), (), ("multiple", "a whole number")),
    "setting of the baseline": (factor("se = [4]", baseline="colour = 1"), (), ("colour", "se")),
    "baseline is no table": (f"baseline = 3\n{TWO}", (), ("baseline", "3")),
    "many baselines": (f"[[baseline]]\nse = 4\n{TWO}", (), ("baseline",)),
    "teacher's setting": (taught_by("netwrok = 'resnet18'"), (), ("'x'", "netwrok", "network")),
    "teacher's network": (taught_by("network = 'resnet17'"), (), ("'x'", "resnet17")),
    "teacher's recipe": (taught_by("recipe = 'digits'"), (), ("'x'", "recipe")),
    "teacher's epochs": (taught_by("epochs = 0"), (), ("'x'", "epochs")),
    "teacher's input": (taught_by("input_size = -1"), (), ("-1",)),
    "teacher's file": (taught_by("file = 'nowhere.pt'"), (), ("'x'", "nowhere")),
    "teacher is no table": (spec(f"[teachers]\nx = 3\n{TWO}"), (), ("'x'", "table")),
    "teacher named none": (
        spec(f"[teachers.none]\nnetwork = 'teacher-small'\n{TWO}"),
        (),
        ("teacher", "none"),
    ),
    "teacher": (factor("teacher = ['none', 'clever']"), (), ("clever", "none, scratch")),
    "no seeds": (spec(top="seeds = 0"), (), ("seeds", "1 to")),
    "fewer than no seeds": (spec(top="seeds = -3"), (), ("seeds", "-3")),
    "text as seeds": (spec(top="seeds = 'three'"), (), ("seeds", "a whole number", "three")),
    "flag: no seeds": (spec(), ("--seeds", "0"), ("seeds", "1 to")),
    "flag: fewer than no seeds": (spec(), ("--seeds", "-3"), ("seeds", "-3")),
    "flag: text as seeds": (spec(), ("--seeds", "three"), ("--seeds", "three")),
    "budget": (spec(), ("--budget", "500B"), ("baseline", "cannot be met", "takes")),
    "budget without unit": (spec(), ("--budget", "300"), ("unit", "300KB")),
    "macs without budget": (spec(top=f"{SHORT}macs = 'abc'"), (), ("MAC", "abc")),
    "repair": (
        factor("depth = [1, 9]", baseline="depth = 1", top=f"{SHORT}budget = '3KB'"),
        (),
        ("depth=9", "too small", "depth 9 -> "),
    ),
    "baseline's repair": (
        factor("se = [0, 4]", baseline="depth = 3", top=f"{SHORT}budget = '1.9KB'"),
        (),
        ("baseline", "too small", "depth 3 -> "),
    ),
    "groups": (factor("late_groups = [4, 7]"), ("--fixed-width",), ("groups=7", "must divide")),
    "switch": (
        factor("switch = [0.5]", baseline="phases = [[0, 0]]"),
        (),
        ("switch",),
    ),
    "switch outside": (factor("switch = [0.5, 1.5]"), (), ("switch=1.5", "above 0, up to 1")),
    "mix outside": (factor("mix = [0.5, 1.5]"), (), ("mix=1.5", "0 to 1")),
    "reference": (based_on("architecture = 'digits-studnet'"), (), ("studnet", "digits-student")),
    "architecture's file": (based_on("architecture = 'nowhere.json'"), (), ("nowhere.json",)),
    "damaged architecture": (based_on("architecture = 'text.json'"), (), ("baseline", "JSON")),
    "study": (based_on("study = 'nowhere'"), (), ("does not exist", "distilnas search")),
    "trial without study": (based_on("trial = 3"), (), ("trial", "study")),
    "no architecture": (based_on("se = 4"), (), ("architecture", "reference")),
    "no baseline": (TOP + TWO, (), ("architecture", "reference")),
    "no TOML": ("this is no TOML", (), ("a.toml", "TOML")),
    "nothing": ("", (), ("[factors]", "[[arms]]")),
    "no factors": (spec(""), (), ("[factors]", "[[arms]]")),
    "no arms": (stated(""), (), ("arms",)),
    "factors and arms": (stated("[[arms]]\nname = 'a'\n" + TWO), (), ("factors", "arms")),
    "equal names": (stated("[[arms]]\nname = 'a'\n" * 2), (), ("'a'", "names of their own")),
    "baseline's name": (stated("[[arms]]\nname = 'baseline'"), (), ("'baseline'", "names")),
    "baseline named as a level": (factor("se = [4, 0]", baseline="name = 'se=0'"), (), ("'se=0'",)),
    "no name": (stated("[[arms]]\nse = 0"), (), ("name",)),
    "empty name": (stated("[[arms]]\nname = ''\nse = 0"), (), ("name",)),
    "arm's setting": (stated("[[arms]]\nname = 'a'\ncolour = 0"), (), ("'a'", "colour")),
    "quick": (spec(), ("--quick",), ("[quick]", "--quick")),
    "quick is no table": ("quick = 3\n" + spec(), ("--quick",), ("[quick]",)),
    "design": (spec(top="design = 'latin'"), (), ("design", "latin", "factorial")),
    "widths": (spec(top="widths = 'wide'"), (), ("widths", "fixed")),
    "views": (spec(top="views = 'mine'"), (), ("views", "per-seed")),
    "recipe": (spec(top="recipe = 'magic'"), (), ("recipe", "report-sgd")),
    "study's name": (spec(), ("--name", "../x"), ("name", "letters")),
    "pretrained": (spec(FINE_TUNED + TWO), ("--pretrained", "nowhere.pth"), ("nowhere.pth",)),
    "pretrained for nobody": (spec(), ("--pretrained", "nowhere.pth"), ("pretrained",)),
    "published accuracy": (spec(f"{TWO}[published]\naccuracy = 3"), (), ("published",)),
    "published date": (spec(f"{TWO}[published]\ndate = 2020-01-01"), (), ("published",)),
    "published arm": (
        spec(f"{TWO}[published]\naccuracy = {{ 'se=9' = 0.5 }}"),
        (),
        ("published", "se=9"),
    ),
    "data": (spec(top="data = 'nowhere'"), (), ("nowhere",)),
    "flag: data": (spec(), ("--data", "nowhere"), ("nowhere",)),
    "device": (spec(), ("--device", "tpu"), ("cpu",)),
}


@pytest.mark.parametrize(("text", "arguments", "words"), WRONG.values(), ids=WRONG)
def test_a_wrong_design_is_one_line_before_anything_is_trained(
    tmp_path: Path, text: str, arguments: tuple[str, ...], words: tuple[str, ...]
) -> None:
    (tmp_path / "text.json").write_text("this is no JSON")
    one_line(ablate(tmp_path, text, *arguments), tmp_path, *words)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("nowhere.toml",), ("nowhere.toml",)),
        (("folder",), ("folder", "directory")),
        (("search",), ("search",)),
        (("resume",), ("resume",)),
        (("show",), ("NAME",)),
        (("a.toml", "b.toml"), ("b.toml",)),
        (("a.toml", "--no-such-flag"), ("--no-such-flag",)),
        (("a.toml", "--parallel", "0"), ("--parallel",)),
    ],
    ids=lambda value: " ".join(value),
)
def test_a_wrong_call_is_one_line(
    tmp_path: Path, arguments: tuple[str, ...], words: tuple[str, ...]
) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "a.toml").write_text(spec())
    one_line(inside(tmp_path, "ablate", *arguments), tmp_path, *words)


def test_a_teacher_of_other_classes_is_refused_before_anything_is_made(tmp_path: Path) -> None:
    model, info = teachers.untrained("teacher-small", tiny.data())
    teachers.save(tmp_path / "x.pt", model, info)
    one_line(ablate(tmp_path, taught_by("file = 'x.pt'")), tmp_path, "classes")


@pytest.mark.parametrize(
    ("name", "words"), [("nowhere", ("no study", "other")), ("other", ("must be a search",))]
)
def test_a_baselines_study_must_be_a_search(
    tmp_path: Path, name: str, words: tuple[str, ...]
) -> None:
    optuna.create_study(study_name="other", storage=f"sqlite:///{tmp_path / 'studies.db'}")
    answer = ablate(tmp_path, based_on(f"study = '{name}'"))
    refused(answer, name, *words)
    assert not (tmp_path / "runs").exists()


def test_more_arms_than_anybody_trains_are_refused(plan_of: Callable[..., Planned]) -> None:
    counts = list(range(2, 13))
    factors = f"epochs = {counts}\nbatch = {counts}\nbn_batches = {counts}"
    with pytest.raises(InputError, match="arms"):
        plan_of(factor(factors, top='design = "factorial"\nwidths = "fixed"'))


def one_line(answer: Answer, folder: Path, *words: str) -> None:
    """Assert that it was refused in one line, and that nothing was made."""
    refused(answer, *words)
    assert answer.out == ""
    assert not (folder / "studies.db").exists()
    assert not (folder / "runs").exists()
    assert not (folder / "cache/teachers").exists()
