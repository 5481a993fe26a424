"""Store of fine-tuned models ↔ the run that tuned them, and the test parts of its folds.

The test parts are in a file beside the shards, because a fit needs them to find utterances on which a model trained.
The settings of the store have the checksum of this file.
"""

import hashlib
import json
from collections.abc import Collection, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from featcache.cache.identity import StoreIdentity
from featcache.errors import StoreError
from featcache.files.disk import reading
from featcache.files.regular import read_regular, replace_file
from featcache.files.values import check_types, damaged, parse_json

TUNED = "fine_tuned"
"""Setting of a store that describes where its fine-tuned models come from."""
TESTED = "tested_by_fold.json"
_HINT = "remove the store and extract again"
_TYPES: dict[str, tuple[type, ...]] = {
    **dict.fromkeys(("run", "corpus", "protocol", "store"), (str,)),
    "seed": (int,),
    "fold": (int, type(None)),
    "models_sha256": (dict,),
    "tested_sha256": (str, type(None)),
}

TestParts = Mapping[int, Collection[str]]
"""Number of a fold → ids of the utterances in its test part."""


@dataclass(frozen=True, kw_only=True)
class TunedOrigin:
    """Fine-tuned models that made a store.

    Attributes:
        run: Name of the run.
        corpus: Corpus on which the run was trained.
        protocol: Protocol of its folds.
        store: Store of the run whose model was tuned.
        seed: Seed of the models.
        fold: Fold whose model computed all utterances; None if each utterance was computed by the model of the fold
            that tested it.
        models_sha256: Fold → checksum of all files of its model.
        tested_sha256: SHA-256 of the file with the test parts; None if they are not known.
    """

    run: str
    corpus: str
    protocol: str
    store: str
    seed: int
    fold: int | None
    models_sha256: Mapping[str, str]
    tested_sha256: str | None

    def settings(self) -> dict[str, Any]:
        """Return the origin as a setting of the store."""
        return asdict(self)

    @property
    def folds(self) -> list[int]:
        """Folds whose models made the store."""
        return sorted(int(number) for number in self.models_sha256)

    @property
    def described(self) -> str:
        """Run, seed and fold as text."""
        fold = "each utterance by the model of the fold that tested it" if self.fold is None else f"fold {self.fold}"
        return f"run {self.corpus}/{self.run}, model of {self.store}, seed {self.seed}, {fold}"

    @classmethod
    def of(cls, identity: StoreIdentity) -> "TunedOrigin | None":
        """Return the origin of a store; None if its model was not fine-tuned by featcache.

        Raises:
            StoreError: the setting is damaged.
        """
        found = identity.settings.get(TUNED)
        if found is None:
            return None
        if not isinstance(found, dict) or found.keys() != _TYPES.keys():
            raise damaged("the store's settings", f"{TUNED}: expected {', '.join(_TYPES)}", _HINT)
        check_types(found, _TYPES, f"the store's settings, {TUNED},", _HINT)
        if not found["models_sha256"] or not all(number.isdecimal() for number in found["models_sha256"]):
            raise damaged("the store's settings", f"{TUNED}: expected the checksum of a model for each fold", _HINT)
        return cls(**found)


def tested_sha256(parts: TestParts) -> str:
    """Return the SHA-256 of the file with the test parts."""
    return hashlib.sha256(_content(parts)).hexdigest()


def write_tested(folder: Path, parts: TestParts) -> None:
    """Write the test parts of all folds beside the shards of a store."""
    replace_file(folder / TESTED, _content(parts))


def read_tested(folder: Path, origin: TunedOrigin) -> dict[int, frozenset[str]] | None:
    """Return fold → ids of the utterances that it tested.

    Args:
        folder: Folder of the store.
        origin: Origin of its models.

    Returns:
        The test parts; None if they are not known: the run did not have them, or the file is missing.

    Raises:
        StoreError: the file is not that of the extraction.
    """
    path = folder / TESTED
    if origin.tested_sha256 is None or not path.exists():
        return None
    with reading(path):
        content = read_regular(path)
    if hashlib.sha256(content).hexdigest() != origin.tested_sha256:
        raise StoreError(f"{path} has changed since it was written; restore it, or run 'featcache extract' again")
    found: dict[str, Any] = parse_json(content, dict, path, _HINT)
    if not all(number.isdecimal() and _are_ids(ids) for number, ids in found.items()):
        raise damaged(path, "expected the ids of the utterances that each fold tested", _HINT)
    return {int(number): frozenset(ids) for number, ids in found.items()}


def fold_by_utterance(parts: Mapping[int, Collection[str]], folds: Collection[int]) -> dict[str, int]:
    """Return utterance id → the first of some folds that tested it; utterances in no test part are missing."""
    found: dict[str, int] = {}
    for fold in sorted(set(parts) & set(folds)):
        for utterance_id in parts[fold]:
            found.setdefault(utterance_id, fold)
    return found


def faults_of_tested(folder: Path, identity: StoreIdentity) -> list[str]:
    """Return the faults of the file with the test parts, if the store needs one."""
    try:
        origin = TunedOrigin.of(identity)
        missing = origin is not None and read_tested(folder, origin) is None and origin.tested_sha256 is not None
    except StoreError as error:
        return [str(error)]
    return [f"{folder / TESTED} is missing; run 'featcache extract' again"] if missing else []


def _are_ids(ids: Any) -> bool:
    return isinstance(ids, list) and all(isinstance(one, str) for one in ids)


def _content(parts: TestParts) -> bytes:
    by_number = {str(number): sorted(ids) for number, ids in sorted(parts.items())}
    return json.dumps(by_number, ensure_ascii=False).encode()
