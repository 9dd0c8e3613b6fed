"""What a dry run says of the data: photographs by class and split, and what looks wrong."""

from rich.console import Console

from search.terminal import output
from trainers.data.survey import Survey
from trainers.data.walk import printable

ROWS = 40  # classes in the table


def print_survey(out: Console, seen: Survey) -> None:
    """For people."""
    splits = list(seen.counts)
    classes = list(seen.counts[splits[0]])
    made = output.rows_table("class", *splits)
    for column in made.columns[1:]:
        column.justify = "right"
    for name in classes[:ROWS]:
        made.add_row(printable(name), *(f"{seen.counts[split][name]:,}" for split in splits))
    if len(classes) > ROWS:
        made.add_row(f"... {len(classes) - ROWS} more", *[""] * len(splits))
    made.add_row("all", *(f"{sum(seen.counts[split].values()):,}" for split in splits))
    out.print(made)
    if seen.unlabelled:
        out.print(f"{seen.unlabelled:,} photographs without labels to train on")
    for remark in seen.remarks:
        out.print(f"warning: {remark}", soft_wrap=True)


def survey_document(seen: Survey) -> dict[str, object]:
    """For programs: all of it."""
    return {
        "photographs": seen.counts,
        "unlabelled": seen.unlabelled,
        "left_out": [file._asdict() for file in seen.left_out],
        "unreadable": seen.unreadable,
        "remarks": seen.remarks,
    }
