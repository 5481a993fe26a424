"""Penultimate activations of heads → HDF5 file, one dataset per head."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from featcache.files.regular import replacing
from featcache.manifest import Utterance
from featcache.prediction.members import HeadKey, Voters
from featcache.runs.file_names import training_name

if TYPE_CHECKING:
    import h5py

Array = npt.NDArray[np.float32]


class EmbeddingsFile:
    """File of penultimate activations, which is filled utterance by utterance.

    Its datasets are ``utterance_id`` and ``path`` (num_utterances,) texts, ``start`` and ``end`` (num_utterances,)
    float64 seconds, and for each head ``<run>/seed-<seed>-fold-<fold>`` (num_utterances, size) float32. A row is NaN if
    the head did not predict the utterance. Activations of different heads are not comparable, so no mean is written.

    Args:
        file: The open file.
        voters: The heads.
        sizes: For each member, seed and fold → number of values.
        utterances: The requested utterances, in the order of the rows.
    """

    def __init__(
        self,
        file: "h5py.File",
        voters: Voters,
        sizes: Sequence[Mapping[HeadKey, int]],
        utterances: Sequence[Utterance],
    ) -> None:
        import h5py

        self._rows = {utterance.utterance_id: row for row, utterance in enumerate(utterances)}
        text = h5py.string_dtype()
        for name in ("utterance_id", "path"):
            file.create_dataset(name, data=[getattr(u, name) for u in utterances], dtype=text)
        for name in ("start", "end"):
            times = [getattr(u, name) for u in utterances]
            file[name] = np.array([np.nan if time is None else time for time in times], dtype=np.float64)
        self._datasets: list[dict[HeadKey, Any]] = []
        for number, (member, of_member) in enumerate(zip(voters.members, sizes, strict=True)):
            group = file.create_group(_group_name(voters, number))
            group.attrs["head"] = member.config["head"]
            shapes = {key: (len(utterances), size) for key, size in of_member.items()}
            self._datasets.append(
                {
                    key: group.create_dataset(
                        training_name(*key), shape, dtype=np.float32, fillvalue=np.nan, chunks=(1, shape[1])
                    )
                    for key, shape in shapes.items()
                }
            )

    def add(self, utterance_id: str, activations: Sequence[Mapping[HeadKey, Array]]) -> None:
        """Write the activations of an utterance: for each member, seed and fold → (size,) float32."""
        for datasets, of_member in zip(self._datasets, activations, strict=True):
            for key, values in of_member.items():
                datasets[key][self._rows[utterance_id]] = values


def _group_name(voters: Voters, number: int) -> str:
    """Return the name of the group of a member: the name of the run; members with equal names are numbered."""
    names = [member.name for member in voters.members]
    name = names[number]
    return name if names.count(name) == 1 else f"{name}-{number + 1}"


@contextmanager
def embeddings_file(
    path: Path | None,
    voters: Voters,
    sizes: Sequence[Mapping[HeadKey, int]],
    utterances: Sequence[Utterance],
) -> Iterator[EmbeddingsFile | None]:
    """Write a file of activations; it gets its name only after the ``with`` block.

    Args:
        path: The file; None to write nothing.
        voters: The heads.
        sizes: For each member, seed and fold → number of values.
        utterances: The requested utterances, in the order of the rows.

    Yields:
        The file, or None.
    """
    if path is None:
        yield None
        return
    from featcache.cache.sink import new_file

    with replacing(path) as temporary, new_file(temporary) as file:
        yield EmbeddingsFile(file, voters, sizes, utterances)
