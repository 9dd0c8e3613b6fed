"""What `teacher test` prints of a teacher's answers, and what it warns of."""

from collections.abc import Iterator, Mapping

from rich.console import Console

from search.terminal import output
from trainers.teachers.looks import NEARLY_ONE_HOT, Answers, Looks


def print_looks(out: Console, looks: Looks, recipe: str, views: int) -> None:
    """A table: one row for each kind of images that the teacher was asked about.

    Args:
        recipe: its name, for the words.
        views: of each training image.
    """
    columns = ("asked about", "images", "accuracy", "entropy", "of log K", "nearly one-hot")
    made = output.rows_table(*columns)
    for column in made.columns[1:]:
        column.justify = "right"
    seen = f"{views} {'view' if views == 1 else 'views'} of each"
    made.add_row(f"training, {seen} (recipe {recipe})", *_cells(looks.views))
    made.add_row("training, not augmented", *_cells(looks.training))
    made.add_row("validation, not augmented", *_cells(looks.validation))
    out.print(made)
    out.print(
        f"entropy in nats, at temperature 1; nearly one-hot: a probability above {NEARLY_ONE_HOT}"
    )


def looks_document(looks: Looks, recipe: str, views: int) -> dict[str, object]:
    """The same as JSON data."""
    return {
        "recipe": recipe,
        "views": views,
        "training_views": looks.views.facts,
        "training": looks.training.facts,
        "validation": looks.validation.facts,
    }


def warnings_of(looks: Looks, compared: Mapping[str, float]) -> Iterator[str]:
    """What stands against a teacher, one line each.

    Args:
        compared: students in words -> their accuracy, a share.
    """
    if looks.by_heart:
        yield (
            f"the teacher knows its training images by heart ({looks.views.accuracy:.1%} of their "
            f"views right, {looks.validation.accuracy:.1%} of validation; {looks.views.one_hot:.0%}"
            " of its answers nearly one-hot): students hear little but labels; stop it earlier "
            "(--keep), or fine-tune a pretrained network"
        )
    for whose, accuracy in compared.items():
        line = output.no_better(looks.validation.accuracy, accuracy, whose)
        if line:
            yield line


def _cells(answers: Answers) -> tuple[str, ...]:
    return (
        f"{answers.images:,}",
        f"{answers.accuracy:.1%}",
        f"{answers.entropy:.3f}",
        f"{answers.relative_entropy:.0%}",
        f"{answers.one_hot:.1%}",
    )
