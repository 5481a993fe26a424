"""Name of a target × manifest → the target: classes, dimensional labels, or several labels at once."""

from collections.abc import Callable

from featcache.corpora import Corpus
from featcache.errors import ManifestError, listed, unknown_name
from featcache.manifest import Manifest
from featcache.targets.base import CLASSIFICATION, MULTILABEL, REGRESSION, TASKS, PredictionTarget, Value
from featcache.targets.classes import REST, Classes, classes_target
from featcache.targets.dimensions import Dimensions, dimensions_target
from featcache.targets.multilabel import Labels, labels_target

__all__ = [
    "CLASSIFICATION",
    "MULTILABEL",
    "REGRESSION",
    "REST",
    "TASKS",
    "Classes",
    "Dimensions",
    "Labels",
    "PredictionTarget",
    "Value",
    "labelled",
    "make_target",
    "split",
]


def labelled(manifest: Manifest, target: str) -> Manifest:
    """Return the utterances that have all labels of a target.

    Raises:
        ManifestError: the label does not exist, or no utterance has all of them.
    """
    columns, _ = split(manifest, target)
    together = set.intersection(*(set(manifest.labels(column)) for column in columns))
    if not together:
        raise ManifestError(f"no utterance has all of the labels {listed(columns)}")
    return manifest.subset(tuple(together))


def split(manifest: Manifest, target: str) -> tuple[list[str], str]:
    """Split the name of a target into its labels and the class after ``=``, which is empty if there is none.

    ``arousal,valence`` gives two labels, ``emotion=anger`` a label and a class. An exact label name takes precedence.

    Raises:
        ManifestError: a name is empty or is given twice.
    """
    if target in manifest.label_columns:
        return [target], ""
    names, _, one = target.partition("=")
    columns = [name.strip() for name in names.split(",")]
    if "" in columns or len(set(columns)) < len(columns):
        raise ManifestError(
            f"target {target!r}: expected a label, LABEL=CLASS, or different labels separated by commas"
        )
    return columns, one.strip()


def make_target(
    manifest: Manifest,
    name: str,
    corpus: Corpus | None,
    *,
    task: str | None = None,
    label_range: tuple[float, float] | None = None,
    where: Callable[[str], str] = "utterance {!r}".format,
) -> PredictionTarget:
    """Make the target that a name stands for.

    Args:
        manifest: The utterances that take part; each has the labels.
        name: A label; ``LABEL=CLASS`` for one class against all others; dimensional labels, separated by commas. For
            the task ``multilabel``: labels of 0 and 1, separated by commas, or a label that lists names.
        corpus: The corpus, which defines its classes and the ranges of its dimensional labels; None if unknown.
        task: ``classification``, ``regression`` or ``multilabel``; by default regression for several labels and for the
            dimensional labels of the corpus, otherwise classification.
        label_range: Lowest and highest possible value; by default as the corpus defines, otherwise as found.
        where: Utterance id → description of the utterance in messages.

    Returns:
        The target, with notes for the report.

    Raises:
        ManifestError: an unknown task or class, a single class or value, labels that are not numbers or are outside
            their range, or options that exclude each other.
    """
    if task is not None and task not in TASKS:
        raise ManifestError(unknown_name("task", task, TASKS))
    columns, one = split(manifest, name)
    if one and len(columns) > 1:
        raise ManifestError(f"target {name!r}: a class belongs to one label; expected LABEL=CLASS")
    bounds = corpus.dimensions if corpus else {}
    by_default = REGRESSION if not one and (len(columns) > 1 or columns[0] in bounds) else CLASSIFICATION
    kind = task or by_default
    if kind != REGRESSION and label_range:
        raise ManifestError(f"--label-range is for regression, but {name!r} is a {kind} target")
    if kind == MULTILABEL:
        return labels_target(manifest, columns, one or None, corpus, where=where)
    if kind == CLASSIFICATION:
        if len(columns) > 1:
            raise ManifestError(
                f"target {name!r}: a classification has one label; use --task regression or multilabel for several"
            )
        return classes_target(manifest, name, columns[0], one or None, corpus)
    if one:
        raise ManifestError(f"target {name!r} is a class, so it cannot be a regression; remove --task")
    return dimensions_target(manifest, columns, corpus, label_range=label_range, where=where)
