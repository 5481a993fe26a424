"""Folder of arrays × manifest → the file of each utterance and its header; and imported features as an input.

The path of an utterance's file, relative to the folder and without suffix, is the utterance's id or the path of its
audio. Alternatively, the file is directly in the folder, and its name is the last part of one of these. Ids are treated
as paths: the file of ``Ses01/Ses01F_001`` is ``Ses01/Ses01F_001.npy``.
"""

import hashlib
import os
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from math import inf, nan
from pathlib import Path, PurePosixPath
from typing import Any

from featcache.corpora.folder_contents import files_below
from featcache.errors import AudioError, FeatureError, StoreError, listed
from featcache.extraction.array_files import SUFFIXES, ArrayHeader, read_features, read_headers
from featcache.extraction.inputs import Input, LengthUnit, ReadFeatures
from featcache.extractors.base import Extractor
from featcache.features import Description, Features
from featcache.files.regular import sha256_of_file
from featcache.manifest import Utterance
from featcache.terminal.progress import map_in_threads
from featcache.units import counted

FRAMES = LengthUnit(name="frames", speed="{:.0f} frames/s")


@dataclass(frozen=True, kw_only=True)
class FoundFeatures:
    """Files of a folder that belong to utterances.

    Attributes:
        headers: Utterance id → the array that its file declares.
        reasons: Utterance id → reason why its file cannot be imported or is missing.
        paths: Utterance id → its file, including faulty files.
        layered: Whether the arrays have layers: (num_layers, num_frames, hidden_size).
        num_layers: Number of layers of most files.
        hidden_size: Number of values per frame and layer of most files.
        left_over: Files that belong to no utterance, relative to the folder.
    """

    headers: Mapping[str, ArrayHeader]
    reasons: Mapping[str, str]
    paths: Mapping[str, Path]
    layered: bool
    num_layers: int
    hidden_size: int
    left_over: Sequence[str] = field(default=())

    def content_sha256(self, workers: int) -> str:
        """Return one SHA-256 over all files that can be imported, judged by their headers, and their utterance ids."""
        path_of = {utterance_id: str(self.paths[utterance_id]) for utterance_id in self.headers}

        def checksum(path: str) -> str:
            try:
                return sha256_of_file(path)
            except OSError:  # Reported when the file is read.
                return ""

        found = map_in_threads(checksum, list(path_of.values()), workers, "checksums")
        lines = sorted(f"{found[path]}  {utterance_id}\n" for utterance_id, path in path_of.items())
        return hashlib.sha256("".join(lines).encode()).hexdigest()


def find_features(
    folder: Path, utterances: Sequence[Utterance], *, array: str | None, frame_shift: float | None
) -> FoundFeatures:
    """Find the file of each utterance, and read its header.

    Args:
        folder: Folder of the files.
        utterances: All utterances of the corpus.
        array: Name of the array, for files that contain several.
        frame_shift: Time between frames in seconds; None if each utterance has one vector.

    Raises:
        StoreError: the folder does not exist, no file belongs to an utterance, or file names are ambiguous.
        FeatureError: no file contains an array that can be imported.
    """
    if not folder.is_dir():
        raise StoreError(f"{folder} is not a folder; give a folder that contains one file per utterance")
    files = files_below(folder, SUFFIXES)
    paths = _files_of(folder, files, utterances)
    headers: dict[str, ArrayHeader] = {}
    reasons = {
        u.utterance_id: f"{folder} has no file {u.utterance_id}.npy, nor with another suffix of {', '.join(SUFFIXES)}"
        for u in utterances
        if u.utterance_id not in paths
    }
    read = read_headers(list(paths.values()), folder, array)
    for utterance_id, path in paths.items():
        found = read[path]
        fault = found if isinstance(found, str) else _fault(found, frame_shift)
        if fault is not None:
            reasons[utterance_id] = f"{path.relative_to(folder)}: {fault}"
        elif isinstance(found, ArrayHeader):
            headers[utterance_id] = found
    if not headers:
        first = next(utterance_id for utterance_id in paths)
        raise FeatureError(f"none of {counted(len(paths), 'file')} in {folder} can be imported; {reasons[first]}")
    (usual, _), *_ = Counter(map(_kind, headers.values())).most_common()
    for utterance_id, header in list(headers.items()):
        if _kind(header) != usual:
            told = f"its shape is {header.shape}, but most files have {usual[1]} layers of {usual[2]} values"
            reasons[utterance_id] = f"{paths[utterance_id].relative_to(folder)}: {told}"
            del headers[utterance_id]
    taken = {path.relative_to(folder).as_posix() for path in paths.values()}
    return FoundFeatures(
        headers=headers,
        reasons=reasons,
        paths=paths,
        layered=usual[0],
        num_layers=usual[1],
        hidden_size=usual[2],
        left_over=[name for name in files if name not in taken],
    )


def _kind(header: ArrayHeader) -> tuple[bool, int, int]:
    layered = len(header.shape) == 3
    return layered, header.shape[0] if layered else 1, header.shape[-1]


def _num_frames(header: ArrayHeader) -> int:
    return 1 if len(header.shape) == 1 else header.shape[-2]


def _fault(header: ArrayHeader, frame_shift: float | None) -> str | None:
    if frame_shift is None and (frames := _num_frames(header)) > 1:
        return (
            f"its shape is {header.shape}: {frames} frames, but without a frame shift each utterance must have one "
            "vector; give --frame-shift in seconds"
        )
    if frame_shift is not None and len(header.shape) == 1:
        return f"its shape is {header.shape}, one vector without frames; omit --frame-shift"
    return None


def _files_of(folder: Path, files: Sequence[str], utterances: Sequence[Utterance]) -> dict[str, Path]:
    """Return utterance id → its file.

    Raises:
        StoreError: an utterance has two files, two utterances have the same file, or no utterance has a file.
    """
    by_stem: dict[str, list[str]] = defaultdict(list)
    for name in files:
        by_stem[os.path.splitext(name)[0]].append(name)
    found: dict[str, list[str]] = {}
    audio = Counter(utterance.path for utterance in utterances)
    for u in utterances:
        stems = [u.utterance_id]
        stems += [os.path.splitext(u.path)[0]] if audio[u.path] == 1 else []
        stems += [PurePosixPath(stem).name for stem in stems]
        names = [name for stem in dict.fromkeys(stems) for name in by_stem.get(stem, ())]
        if names:
            found[u.utterance_id] = names
    for utterance_id, names in found.items():
        if len(names) > 1:
            raise StoreError(f"{folder}: {listed(names)} all match the utterance {utterance_id!r}; keep one of them")
    owners: dict[str, list[str]] = defaultdict(list)
    for utterance_id, (name,) in found.items():
        owners[name].append(utterance_id)
    shared = next((name for name, ids in owners.items() if len(ids) > 1), None)
    if shared is not None:
        raise StoreError(
            f"{folder}: {shared!r} matches several utterances ({listed(owners[shared])}); name files by their full ids"
        )
    if not found:
        expected = f"such as {utterances[0].utterance_id + '.npy'!r}"
        there = f"found {listed(files)}" if files else f"found no file with a suffix of {', '.join(SUFFIXES)}"
        raise StoreError(f"{folder}: {there}, but none named after an utterance of the manifest, {expected}")
    return {utterance_id: folder / name for utterance_id, (name,) in found.items()}


class FeatureFiles(Input):
    """Imported features as the input of an extraction.

    Args:
        root: Folder of the files.
        found: Files of the utterances.
        array: Name of the array, for files that contain several.
        frame_shift: Time between frames in seconds; None if each utterance has one vector.
    """

    unit = FRAMES
    shard_length = inf
    batch_lengths = (0.0, 0.0)
    changed = "features changed since they were imported"

    def __init__(self, root: Path, found: FoundFeatures, *, array: str | None, frame_shift: float | None) -> None:
        super().__init__(root)
        self._found = found
        self._array = array
        self._frame_shift = frame_shift

    def key(self, utterance: Utterance) -> str:
        return utterance.utterance_id

    def checksum(self, key: str) -> str:
        return ""  # The audio is not known; the checksum of the features is one of the store's settings.

    def prepare(self, key: str) -> None:
        pass

    def probe(self, utterance: Utterance) -> tuple[int, int]:
        header = self._found.headers.get(utterance.utterance_id)
        return (0 if header is None else _num_frames(header)), 1

    def unreadable(self, utterance: Utterance) -> str | None:
        return self._found.reasons.get(utterance.utterance_id)

    def read(self, utterance: Utterance, max_seconds: float | None) -> ReadFeatures:
        reason, path = self.unreadable(utterance), self._found.paths.get(utterance.utterance_id)
        if reason is not None or path is None:
            raise AudioError(reason or "it has no file")
        try:
            features = read_features(path, self._array)
        except AudioError as error:
            raise AudioError(f"{path.relative_to(self.root)}: {error}") from error
        duration = nan if self._frame_shift is None else features.shape[1] * self._frame_shift
        return ReadFeatures(features=features, duration=duration)


class ImportedFeatures(Extractor):
    """Extractor that returns imported features unchanged.

    Args:
        description: Shape, layers and identity of the features.
    """

    def __init__(self, description: Description) -> None:
        self.description = description

    def num_frames(self, num_samples: int, sampling_rate: int) -> int:
        return num_samples

    def hop(self, sampling_rate: int) -> int:
        return 1

    def extract(self, signals: Sequence[Any]) -> list[Features]:
        return list(signals)
