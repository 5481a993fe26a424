"""Caches of several corpora → their joint cache, with common labels."""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, cast

from featcache.cache.joint import JointCache, joint_utterances
from featcache.cache.reader import FeatureCache
from featcache.corpora import Corpus, CorpusFiles
from featcache.corpora.common_labels import in_order
from featcache.corpora.recorded import corpus_of
from featcache.errors import CorpusError, ManifestError, unknown_name
from featcache.fitting.label_map import Labels, described, map_labels
from featcache.manifest import Manifest
from featcache.normalise import SPEAKER
from featcache.protocols.across import CORPUS
from featcache.protocols.dialogues import dialogue_labels
from featcache.runs.identity import CORPUS_RANGES, LABEL_MAP, TARGET_COLUMNS, TEST, TRAIN
from featcache.settings.fits import FitSettings
from featcache.targets.classes import check_classes
from featcache.targets.targets import CLASSIFICATION, REGRESSION, Dimensions, labelled, make_target, split
from featcache.units import counted
from featcache.utterances import NO_TARGETS, Utterance

EMOTION = "emotion"
"""Name of the common label, if the labels of the corpora have different names."""
MAX_FRAMES = 400

# Corpus → utterance id → common label → its value.
Values = Mapping[str, Mapping[str, Mapping[str, str]]]


@dataclass(frozen=True, kw_only=True)
class JointCorpus(Corpus):
    """Several corpora together."""

    def read(self, path: Path) -> CorpusFiles:
        """Raise an error: several corpora have no common folder.

        Raises:
            CorpusError: always.
        """
        raise CorpusError(f"{path}: several corpora are read from their caches only")


class JointFit:
    """Several corpora of a fit, on their way to a joint cache.

    Args:
        path: Folder that the joint cache would have, beside the caches of the corpora.
        request: The settings of the fit.
    """

    def __init__(self, path: Path, request: FitSettings) -> None:
        self._path, self._request = path, request
        self._caches = {name: FeatureCache(path.parent / name) for name in sorted((*request.train, *request.test))}
        self._known = {name: corpus_of(cache.path) for name, cache in self._caches.items()}
        self._chosen = {name: self._selected(name) for name in self._caches}
        self._notes: list[str] = []

    def cache(self) -> JointCache:
        """Return the joint cache."""
        columns, one = self._columns()
        first = next(iter(columns.values()))
        same = all(of_corpus == first for of_corpus in columns.values())
        names = first if same else (EMOTION,)
        if self._is_regression(columns, one):
            values, settings = self._scaled(",".join(names))
        elif len(names) > 1 or self._request.task not in (None, CLASSIFICATION):
            raise ManifestError(
                f"--task {self._request.task} with --target {','.join(names)} is for one corpus; with --train, use one "
                "label with classes, or --task regression"
            )
        else:
            values, settings = self._mapped({name: column for name, (column, *_) in columns.items()}, names[0])
        utterances = [u for name in self._caches for u in self._joined(name, values[name])]
        parts = {TRAIN: sorted(self._request.train), TEST: sorted(self._request.test)}
        if len(parts[TEST] or parts[TRAIN]) > 1 and not self._request.final:
            self._notes.append(
                "Scores are over the test utterances of all test corpora together; the scores of each corpus are in "
                "metrics.json."
            )
        return JointCache(
            self._path,
            self._caches,
            Manifest(utterances),
            corpus=self._corpus(settings, names),
            target=f"{names[0]}={one}" if one else ",".join(names),
            settings={key: value for key, value in {**parts, **settings}.items() if value},
            notes=self._notes,
        )

    def _selected(self, name: str) -> Manifest:
        """Return the utterances of a corpus that ``limit`` and ``select`` choose; labels of other corpora do not count.

        Raises:
            ManifestError: no corpus has a label, or no utterance of this corpus remains.
        """
        manifest = self._caches[name].manifest.limited(self._request.limit)
        every = {label for cache in self._caches.values() for label in cache.manifest.label_columns}
        for label in self._request.select:
            if label not in every:
                raise ManifestError(f"--select: {unknown_name('label', label, every)}")
        own = {label: values for label, values in self._request.select.items() if label in manifest.label_columns}
        with _of_corpus(name):
            return manifest.select(**own) if own else manifest

    def _columns(self) -> tuple[dict[str, tuple[str, ...]], str]:
        """Return the labels of each corpus that are predicted, and the class of the target, or an empty text."""
        target = self._request.target
        if target is None:
            return {name: (self._default_label(name),) for name in self._caches}, ""
        columns, one = split(next(iter(self._caches.values())).manifest, target)
        for name, cache in self._caches.items():
            for column in columns:
                if column not in cache.manifest.label_columns or column in (CORPUS, *NO_TARGETS):
                    known = set(cache.manifest.label_columns) - {CORPUS, *NO_TARGETS}
                    raise ManifestError(f"--target {target}: {unknown_name(f'label of {name}', column, known)}")
        return dict.fromkeys(self._caches, tuple(columns)), one

    def _default_label(self, name: str) -> str:
        labels = [label for label in self._caches[name].manifest.label_columns if label not in (CORPUS, *NO_TARGETS)]
        known = self._known[name]
        usual = known.target if known else EMOTION
        if usual in labels:
            return usual
        if len(labels) == 1:
            return labels[0]
        raise ManifestError(f"which label of {name} to predict? choose with --target: {', '.join(labels) or 'none'}")

    def _is_regression(self, columns: Mapping[str, Sequence[str]], one: str) -> bool:
        if self._request.task is not None or one:
            return self._request.task == REGRESSION
        return any(
            len(of_corpus) > 1 or of_corpus[0] in (known.dimensions if known else ())
            for of_corpus, known in zip(columns.values(), self._known.values(), strict=True)
        )

    def _mapped(self, columns: Mapping[str, str], name: str) -> tuple[Values, dict[str, Any]]:
        """Return corpus → utterance id → its common label, and the entries of the configuration.

        Utterances without a label have an empty one. Those whose label is left out are missing.

        Args:
            columns: Corpus → its label.
            name: Name of the common label.
        """
        if self._request.label_range:
            raise ManifestError(f"--label-range is for regression, but {name!r} is a classification")
        present = {corpus: self._labels(corpus, column) for corpus, column in columns.items()}
        content = self._request.label_map
        for corpus, column in columns.items() if content is None else ():
            with _of_corpus(corpus):
                check_classes(column, present[corpus])
        mapped: Labels = map_labels(present, cast("Mapping[str, Any] | None", content))
        values: dict[str, dict[str, dict[str, str]]] = {}
        for corpus, column in columns.items():
            labels: Mapping[str, str | None] = {"": "", **mapped[corpus]}
            of_corpus = {u.utterance_id: u.labels.get(column, "") for u in self._chosen[corpus]}
            values[corpus] = {i: {name: common} for i, one in of_corpus.items() if (common := labels[one]) is not None}
            self._notes.append(described(corpus, mapped[corpus], Counter(filter(None, of_corpus.values()))))
            if not any(one[name] for one in values[corpus].values()):
                raise ManifestError(f"no utterance of {corpus} has a common label; change the label map or --select")
        self._check_tested(mapped)
        others = {corpus: column for corpus, column in columns.items() if column != name}
        return values, {LABEL_MAP: {corpus: dict(one) for corpus, one in mapped.items()}, TARGET_COLUMNS: others}

    def _check_tested(self, mapped: Labels) -> None:
        """Check that each corpus that tests has a label that another corpus trains.

        Raises:
            ManifestError: all its predictions would be wrong.
        """
        if self._request.final:
            return
        found = {corpus: {one for one in labels.values() if one is not None} for corpus, labels in mapped.items()}
        for corpus in self._request.test or self._request.train:
            trained = {one for other in self._request.train if other != corpus for one in found[other]}
            if not found[corpus] & trained:
                raise ManifestError(
                    f"no common label of {corpus} ({', '.join(sorted(found[corpus]))}) is in a corpus that trains "
                    f"({', '.join(sorted(trained))}); change the label map"
                )

    def _labels(self, corpus: str, column: str) -> tuple[str, ...]:
        """Return the labels of a corpus, in its own order."""
        present = set(self._caches[corpus].manifest.labels(column).values())
        known = self._known[corpus]
        first = [label for label in (known.classes if known else ()) if label in present]
        return (*first, *sorted(present - set(first)))

    def _scaled(self, target: str) -> tuple[Values, dict[str, Any]]:
        """Return corpus → utterance id → its labels in [0, 1], and the entries of the configuration.

        Utterances without all labels have empty ones.
        """
        if self._request.label_map is not None:
            raise ManifestError(f"--label-map is for classes, but {target!r} is a regression; remove --label-map")
        values: dict[str, dict[str, dict[str, str]]] = {}
        ranges: dict[str, dict[str, list[float]]] = {}
        for corpus, chosen in self._chosen.items():
            with _of_corpus(corpus):
                having = labelled(chosen, target)
                found = make_target(
                    having, target, self._known[corpus], task=REGRESSION, label_range=self._request.label_range
                )
            scaled = cast(Dimensions, found)
            values[corpus] = {u.utterance_id: dict.fromkeys(scaled.labels, "") for u in chosen}
            for u in having:
                numbers = zip(scaled.labels, scaled.value(u), strict=True)
                values[corpus][u.utterance_id] = {name: f"{number:.9g}" for name, number in numbers}
            ranges[corpus] = {name: list(bounds) for name, bounds in scaled.ranges.items()}
            told = ", ".join(f"{name} {low:g} to {high:g}" for name, (low, high) in scaled.ranges.items())
            self._notes.append(f"Labels of {corpus!r} were scaled to [0, 1] by their own range: {told}.")
            self._notes += [f"{corpus}: {note}" for note in scaled.notes]
        return values, {CORPUS_RANGES: ranges}

    def _joined(self, name: str, values: Mapping[str, Mapping[str, str]]) -> list[Utterance]:
        """Return the utterances of a corpus with common labels, as utterances of the joint cache."""
        by = self._request.norm_by
        apart = (*dialogue_labels(), *([by] if by not in (SPEAKER, CORPUS) else ()))
        part = {} if not self._request.test else {"split": "test" if name in self._request.test else "train"}
        kept = [
            replace(
                u,
                labels={
                    **{label: value for label, value in u.labels.items() if label not in NO_TARGETS},
                    **values[u.utterance_id],
                    **part,
                },
            )
            for u in self._chosen[name]
            if u.utterance_id in values
        ]
        is_for_one = self._request.test or self._request.final
        role = "Tests" if name in self._request.test else "Trains" if is_for_one else "Trains and tests"
        speakers = counted(len({u.speaker_id for u in kept} - {""}), "speaker")
        self._notes.append(f"{role}: {name!r} with {counted(len(kept), 'utterance')} of {speakers}.")
        return joint_utterances(name, kept, apart)

    def _corpus(self, settings: Mapping[str, Any], names: Sequence[str]) -> JointCorpus:
        common = {common for one in settings.get(LABEL_MAP, {}).values() for common in one.values()} - {None}
        return JointCorpus(
            name=self._path.name,
            title=self._path.name,
            description="Several corpora.",
            license="",
            source="",
            classes=in_order(common),
            target=names[0],
            dimensions={} if common else dict.fromkeys(names, (0.0, 1.0)),
            max_frames=max(known.max_frames if known else MAX_FRAMES for known in self._known.values()),
        )


@contextmanager
def _of_corpus(name: str) -> Iterator[None]:
    """Add the corpus to an error in the block.

    Raises:
        ManifestError: the block raised it.
    """
    try:
        yield
    except ManifestError as error:
        raise ManifestError(f"corpus {name!r}: {error}") from error
