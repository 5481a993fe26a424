"""Finished run → event files of TensorBoard: one folder for the run, and one for each training."""

import json
import logging
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

from featcache.errors import StoreError, in_one_line
from featcache.files.disk import writing
from featcache.files.regular import replace_file
from featcache.report.trackers import ADDED, PRESENT, REPLACED, TrackedRun, missing
from featcache.terminal.escape import escaped

if TYPE_CHECKING:
    from torch.utils.tensorboard import SummaryWriter

log = logging.getLogger(__name__)

# File beside the event files with the checksum of the run. Only folders with this file are ever replaced.
MARK = "featcache.json"


def write_tensorboard(tracked: TrackedRun, folder: Path) -> str:
    """Write a run, unless the same results were already written.

    Args:
        tracked: The run.
        folder: Folder of all logs; the run gets the folder corpus/name in it.

    Returns:
        ``added``, ``replaced`` or ``already there``.

    Raises:
        MissingPackageError: TensorBoard is not installed.
        StoreError: the folder of the run contains something else, or cannot be written.
    """
    writer_class = _writer_class()
    place = folder / tracked.name
    there = place.exists()
    if there:
        if not (place / MARK).is_file():
            raise StoreError(f"{place} exists and is no log of 'featcache track'; choose another folder with --out")
        if _checksum(place) == tracked.checksum:
            return PRESENT
    hidden = place.with_name(f".{place.name}.unfinished")
    with writing(place):
        shutil.rmtree(hidden, ignore_errors=True)
        hidden.mkdir(parents=True)
        _write(tracked, hidden, writer_class)
        replace_file(hidden / MARK, json.dumps({"run": tracked.name, "sha256": tracked.checksum}).encode())
        shutil.rmtree(place, ignore_errors=True)
        hidden.rename(place)
    return REPLACED if there else ADDED


def _writer_class() -> Any:
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError:
        raise missing("tensorboard", "TensorBoard") from None
    logging.getLogger("tensorboard").setLevel(logging.ERROR)
    return SummaryWriter


def _checksum(place: Path) -> str:
    try:
        found = json.loads((place / MARK).read_bytes())
    except ValueError:
        return ""
    return str(found.get("sha256", "")) if isinstance(found, dict) else ""


def _write(tracked: TrackedRun, folder: Path, writer_class: "type[SummaryWriter]") -> None:
    """Write the event files; all events have the time at which the run was finished."""
    with writer_class(str(folder)) as writer:
        for name, value in tracked.scores.items():
            writer.add_scalar(name, value, 0, walltime=tracked.time)
        lines = [f"| {_cell(name)} | {_cell(value)} |" for name, value in tracked.settings.items()]
        writer.add_text("settings", "\n".join(["| setting | value |", "| --- | --- |", *lines]), 0, tracked.time)
        for path in tracked.figures:
            pixels = _pixels(path)
            if pixels is not None:
                writer.add_image(path.stem, pixels, 0, walltime=tracked.time, dataformats="HWC")
        _write_parameters(tracked, writer)
    for training, rows in tracked.curves():
        with writer_class(str(folder / training)) as writer:
            for column in rows.columns.drop(["seed", "fold", "epoch"]):
                for epoch, value in zip(rows["epoch"], rows[column], strict=True):
                    writer.add_scalar(column, float(value), int(epoch), walltime=tracked.time)


def _write_parameters(tracked: TrackedRun, writer: "SummaryWriter") -> None:
    """Write the settings and scores for the tab HPARAMS, which compares runs."""
    from torch.utils.tensorboard.summary import hparams

    # Not add_hparams, which would write the scores a second time.
    for summary in hparams(dict(tracked.settings), dict(tracked.scores)):  # type: ignore[no-untyped-call]
        writer._get_file_writer().add_summary(summary, 0, tracked.time)  # type: ignore[no-untyped-call]


def _cell(text: str) -> str:
    return escaped(text).replace("|", r"\|")


def _pixels(path: Path) -> Any:
    import numpy as np
    from PIL import Image

    try:
        with Image.open(path, formats=["PNG"]) as image:
            return np.asarray(image.convert("RGB"))
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        # Figures have no checksums: they may be edited or missing.
        log.warning("%s left out: not readable as PNG (%s)", path, in_one_line(error))
        return None
