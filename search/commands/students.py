"""The commands on single files: export, test, predict, size."""

from pathlib import Path

import torch

from search.database import table
from search.database.address import command, database_errors
from search.database.engine import open_engine
from search.study.folder import ARTIFACTS, Folder, cache_folder, require_writable
from search.terminal import output
from space.architecture import Architecture
from space.count import Cost, cost
from space.errors import InputError
from space.file_format import StudentMetadata, normalisation
from space.references import read_architecture
from space.solver import format_bytes
from space.spaces import REFERENCES, reference
from trainers import export as exporting
from trainers.data.datasets import decode, load_test, relabelled
from trainers.engine.evaluation import choose_device, evaluate
from trainers.engine.evaluation import predict as logits_of


def export(
    storage: str, name: str, number: int | None, format: str | None, out: Path, as_json: bool
) -> None:
    """Write a trial's student to `out`, in its own format or converted to another one."""
    require_writable(out)
    with database_errors(storage):
        database = open_engine(storage)
        attributes = table.attributes(database, name)
        frame = table.trials(database, name, ("bytes", "duplicate_of"), with_params=False)
    if not table.spec_of(attributes):
        raise InputError(f"study {name!r} was not made by DistilNAS: it has no student's files")
    folder = Folder(storage, name, attributes.get(ARTIFACTS))
    if number is None:
        leaders = table.best(frame, 1)["number"].tolist()
        if not leaders:
            raise InputError(
                f"study {name!r} has no complete trial yet; go on with: "
                f"{command('resume', name, storage)}"
            )
        number = int(leaders[0])
    source, exact = folder.student(number), folder.exact(number)
    folder.fetch(*(str(path.relative_to(folder.path)) for path in (source, exact)))
    if not source.exists():
        raise InputError(
            f"trial {number} of {name!r} has no student's file: only complete trials do"
        )
    own = exporting.read(source).format
    wanted = format or own
    if exact.exists() and wanted != own:
        source = exact
    try:
        size = exporting.convert(source, wanted, out)
    except OSError as error:
        raise InputError(f"{out} cannot be written: {error.strerror}") from None
    if as_json:
        output.print_json({"file": str(out), "bytes": size, "format": wanted})
    else:
        output.console().print(f"{out}: {size:,} bytes ({format_bytes(size)})", soft_wrap=True)


def test(file: Path, data: str, cache: str, device: str, as_json: bool) -> None:
    """Accuracy on the test split."""
    stored, chosen = exporting.read(file), choose_device(device)
    place = cache_folder(cache)
    loaded, classes = load_test(data, stored.metadata.size, cache=place)
    split = relabelled(loaded, classes, stored.metadata.classes)
    if split is None:
        raise InputError(
            f"{file} knows {len(stored.metadata.classes)} classes "
            f"({', '.join(stored.metadata.classes[:3])}, ...), but {data} has {len(classes)} "
            f"({', '.join(classes[:3])}, ...); test it on the data it was made for"
        )
    accuracy = evaluate(stored.model.to(chosen), split, chosen)
    if as_json:
        document = {"file": str(file), "accuracy": accuracy, "images": len(split)}
        output.print_json(document | {"bytes": file.stat().st_size, "format": stored.format})
    else:
        size = f"{file.stat().st_size:,} bytes, {stored.format}"
        output.console().print(
            f"test accuracy {accuracy:.2%} on {len(split):,} images ({file}: {size})",
            soft_wrap=True,
        )


def predict(file: Path, images: tuple[Path, ...], top: int, device: str, as_json: bool) -> None:
    """The likeliest classes of every image, with probabilities."""
    stored, chosen = exporting.read(file), choose_device(device)
    model, metadata = stored.model.to(chosen), stored.metadata
    # A copy: grey pixels may be a read-only view of Pillow's memory.
    pixels = [torch.tensor(decode(path, metadata.size, len(metadata.mean))) for path in images]
    answers = []
    for logits_NK in logits_of(model, torch.stack(pixels), chosen):
        best = logits_NK.softmax(1).topk(min(top, len(metadata.classes)))
        for shares, places in zip(best.values.tolist(), best.indices.tolist(), strict=True):
            pairs = zip(places, shares, strict=True)
            answers.append([{"class": metadata.classes[k], "probability": p} for k, p in pairs])
    if as_json:
        documents = [{"image": str(i), "classes": a} for i, a in zip(images, answers, strict=True)]
        output.print_json(documents)
        return
    for image, answer in zip(images, answers, strict=True):
        words = ", ".join(f"{guess['class']} {guess['probability']:.1%}" for guess in answer)
        output.console().print(f"{image}: {words}", soft_wrap=True)


def size(what: str, classes: int, channels: int, pixels: int, as_json: bool) -> None:
    """Parameters, MACs and bytes in every format."""
    architecture, metadata = _described(what, classes, channels, pixels)
    counted = cost(architecture, metadata)
    if as_json:
        output.print_json({"architecture": architecture.to_dict()} | _document(counted))
        return
    out = output.console()
    out.print(architecture.words, soft_wrap=True)
    made = output.rows_table("what", "value")
    made.columns[1].justify = "right"
    made.add_row("parameters", f"{counted.parameters:,}")
    made.add_row("batch norm buffers", f"{counted.buffers:,}")
    made.add_row(f"MACs at {metadata.size} pixels", f"{counted.macs:,}")
    made.add_row("RAM for activations in int8", f"{counted.activation_peak:,} bytes")
    for format, count in counted.stored.items():
        made.add_row(f"file in {format}", f"{count:,} bytes")
    out.print(made)


def _document(counted: Cost) -> dict[str, object]:
    return {
        "params": counted.parameters,
        "buffers": counted.buffers,
        "macs": counted.macs,
        "activation_peak": counted.activation_peak,
        "bytes": dict(counted.stored),
    }


def _described(
    what: str, classes: int, channels: int, pixels: int
) -> tuple[Architecture, StudentMetadata]:
    path = Path(what)
    if path.suffix == ".safetensors":
        stored = exporting.read(path)
        return stored.architecture, stored.metadata
    if what in REFERENCES:
        architecture = reference(what, classes=classes, channels=channels)
    else:
        architecture = read_architecture(path)
    mean, std = normalisation(architecture.channels)
    names = tuple(str(k) for k in range(architecture.classes))
    return architecture, StudentMetadata(classes=names, size=pixels, mean=mean, std=std)
