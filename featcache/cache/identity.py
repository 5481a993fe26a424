"""Description × storage → identity of a store: the settings that change its numbers, and their fingerprint; and back.

The settings are all options of the extractor under their own names, the checksum of its weights, and the options of the
storage.
"""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import numpy as np

from featcache._version import __version__
from featcache.augmentation.augmented_view import VIEW_SETTINGS, is_view
from featcache.cache.layout import ATTRIBUTES, FORMAT_VERSION, TEXT_DTYPE, StorageDtype
from featcache.errors import StoreError
from featcache.extractors.families import XVECTOR
from featcache.extractors.models import entry_of, store_model_id
from featcache.extractors.references import recorded_extractor
from featcache.features import Description
from featcache.settings.extractor_configs import CHUNK_OPTIONS, ChunkConfig, SSLConfig, TextConfig
from featcache.settings.field import settings_of

# Settings of the storage; all others belong to the extractor.
STORAGE_SETTINGS = ("storage_dtype", "format_version", "pool")
# Setting that is the checksum of the model's weights.
WEIGHTS = "weights_sha256"
# Value of the setting "extractor" for imported features.
IMPORTED = "imported"
# Options that stores record under another name or not at all, and the source of the transcripts.
NOT_COMPARED = ("model", "revision", "transcripts", "transcripts_made_by")


@dataclass(frozen=True, kw_only=True)
class StoreIdentity:
    """Settings that determine the features of a store: equal identities mean equal features.

    Attributes:
        settings: Every setting that changes the numbers in a store or its datasets, as plain JSON values.
    """

    settings: Mapping[str, Any]

    @classmethod
    def of(cls, description: Description, storage_dtype: str, *, pool: bool = False) -> "StoreIdentity":
        """Return the identity of a store that an extractor fills.

        Args:
            description: Description of the extractor.
            storage_dtype: ``float16``, ``float32`` or ``int8``.
            pool: Whether the store contains only statistics.
        """
        storage = {"storage_dtype": storage_dtype, "format_version": FORMAT_VERSION, **({"pool": True} if pool else {})}
        return cls(settings=json.loads(json.dumps({**description.settings, **storage})))

    @classmethod
    def read(cls, attributes: Mapping[str, Any]) -> "StoreIdentity":
        """Return the identity that is recorded in the root attributes of a store."""
        return cls(settings=json.loads(attributes["settings"]))

    def __hash__(self) -> int:
        return hash(self.fingerprint)

    @property
    def fingerprint(self) -> str:
        """SHA-256 of the settings; their order does not matter."""
        return hashlib.sha256(self.to_json().encode()).hexdigest()

    @property
    def storage_dtype(self) -> StorageDtype:
        """Dtype of the stored features: ``float16``, ``float32`` or ``int8``."""
        return cast(StorageDtype, self.settings["storage_dtype"])

    @property
    def pool(self) -> bool:
        """Whether the store contains only statistics."""
        return bool(self.settings.get("pool", False))

    @property
    def reads_text(self) -> bool:
        """Whether the extractor reads transcripts instead of audio."""
        return bool(self.settings.get("extractor") == "text")

    @property
    def is_imported(self) -> bool:
        """Whether the features were imported, so that they cannot be recomputed here."""
        return bool(self.settings.get("extractor") == IMPORTED)

    @property
    def is_view(self) -> bool:
        """Whether the features are of augmented speech."""
        return is_view(self.settings)

    def without_view(self) -> "StoreIdentity":
        """Return the identity of the store of the clean speech that has the same other settings."""
        return StoreIdentity(settings={k: value for k, value in self.settings.items() if k not in VIEW_SETTINGS})

    @property
    def extractor_settings(self) -> dict[str, Any]:
        """Settings of the extractor, without those of the storage."""
        return {name: value for name, value in self.settings.items() if name not in STORAGE_SETTINGS}

    def to_json(self) -> str:
        """Return the settings as JSON, sorted by name."""
        return json.dumps(self.settings, sort_keys=True)

    def model_and_options(self) -> tuple[str, dict[str, Any]]:
        """Return the model and the options with which ``create_extractor`` creates the store's extractor again.

        For a model that was loaded from a folder, only the name of the folder is recorded.

        Raises:
            StoreError: the features were imported, or the settings name no extractor.
            ModelError: the settings name external code that the user did not name.
        """
        if self.is_imported:
            raise StoreError("the features of this store were imported, so the extractor is not known")
        return recorded_extractor(self.settings)

    def is_of_model(self, model: str, options: Mapping[str, Any], *, text: bool, num_blocks: int) -> bool:
        """Return whether the store was made by this model with these options, as far as the name shows.

        The model is not loaded. Therefore the revision is not compared, and changed weights on the hub are not noticed.

        Args:
            model: A short name, a Hugging Face id or a folder.
            options: Options of ``create_extractor``; missing options have their defaults.
            text: Whether the model reads text.
            num_blocks: Number of transformer blocks of the model that made the store.
        """
        entry = entry_of(model) or {}
        every_layer = [str(layer) for layer in range(num_blocks + 1)]
        layers = {None: every_layer, "all": every_layer, "local": every_layer[:1], "last": every_layer[-1:]}
        layers[XVECTOR] = [XVECTOR]
        chunks = ChunkConfig(
            chunk_seconds=options.get("chunk_seconds"), overlap_seconds=options.get("overlap_seconds")
        ).settings()
        config = TextConfig if text else SSLConfig
        expected = {
            **{name: options.get(name, one.default) for name, (one, _) in settings_of(config).items()},
            "extractor": "text" if text else "ssl",
            "model_id": store_model_id(model),
            "layers": layers.get(options.get("layers")),
            "do_normalize": options.get("do_normalize", entry.get("do_normalize")),
            "keep_padding": options.get("keep_padding") or None,
            **dict.fromkeys(CHUNK_OPTIONS),
            **chunks,
        }
        for name in NOT_COMPARED:
            expected.pop(name, None)
        same = not self.is_view and all(self.settings.get(name) == value for name, value in expected.items())
        return same and options.get("revision") is None

    def differences(self, other: "StoreIdentity") -> list[str]:
        """Return the names of the settings that differ, sorted."""
        names = self.settings.keys() | other.settings.keys()
        return sorted(name for name in names if self.settings.get(name) != other.settings.get(name))

    def described_differences(self, other: "StoreIdentity", places: tuple[str, str]) -> dict[str, str]:
        """Return name → text for the settings that differ: ``layers is 0 in emodb and 1 in ravdess``.

        Args:
            other: The other identity.
            places: Where this identity and the other one are found, for the texts.
        """
        return {
            name: _told(name, self.settings.get(name), other.settings.get(name), places)
            for name in self.differences(other)
        }

    def check_same(
        self,
        other: "StoreIdentity",
        folder: Path,
        hint: str = "give the new store another name with --name, or remove the old one",
    ) -> None:
        """Check that another identity is the same.

        Args:
            other: The identity that is requested now.
            folder: Folder or file that has this identity.
            hint: Advice for the user, shown if the identities differ.

        Raises:
            StoreError: the identities differ; the message names the settings.
        """
        if self.fingerprint == other.fingerprint:
            return
        differing = self.described_differences(other, ("there", "now")).values()
        raise StoreError(f"{folder} was made with other settings: {'; '.join(differing)}; {hint}")


def root_attributes(description: Description, storage_dtype: str, *, pool: bool = False) -> dict[str, Any]:
    """Return the root attributes of a shard, see :mod:`featcache.cache.layout`.

    Args:
        description: Description of the extractor.
        storage_dtype: ``float16``, ``float32`` or ``int8``.
        pool: Whether the store contains only statistics.
    """
    identity = StoreIdentity.of(description, storage_dtype, pool=pool)
    plain = {**description.settings, **description.provenance, "layer_names": list(description.layer_names)}
    if pool:
        plain["pool"] = True
    if description.padded_frames is not None:
        plain["padded_frames"] = description.padded_frames
    return {
        **{name: _attribute(value) for name, value in plain.items() if value is not None},
        "format_version": FORMAT_VERSION,
        "featcache_version": __version__,
        "fingerprint": identity.fingerprint,
        "settings": identity.to_json(),
        "dataset": description.dataset,
        "hidden_size": description.hidden_size,
        "frame_shift": np.nan if description.frame_shift is None else description.frame_shift,
        "sampling_rate": description.sampling_rate or 0,
        "channel": description.channel or "",
        "storage_dtype": storage_dtype,
    }


def read_extractor_description(attributes: Mapping[str, Any]) -> Description:
    """Return the description of the extractor from the root attributes of a store."""
    settings = StoreIdentity.read(attributes).extractor_settings
    own = {*ATTRIBUTES, *settings, *STORAGE_SETTINGS, "featcache_version", "sampling_rate", "channel", "padded_frames"}
    frame_shift = attributes["frame_shift"]
    return Description(
        dataset=attributes["dataset"],
        layer_names=tuple(attributes["layer_names"]),
        hidden_size=attributes["hidden_size"],
        frame_shift=None if np.isnan(frame_shift) else frame_shift,
        sampling_rate=attributes["sampling_rate"] or None,
        channel=attributes["channel"] or None,
        max_seconds=settings.get("max_seconds"),
        padded_frames=attributes.get("padded_frames"),
        settings=settings,
        provenance={name: value for name, value in attributes.items() if name not in own},
    )


def _attribute(value: Any) -> Any:
    """Return a value that h5py can store: JSON for dictionaries and mixed lists, a typed array for lists of strings."""
    if isinstance(value, dict) or (isinstance(value, list | tuple) and not all(isinstance(one, str) for one in value)):
        return json.dumps(value)
    return np.array(value, dtype=TEXT_DTYPE) if isinstance(value, list | tuple) else value


def _told(name: str, one: Any, other: Any, places: tuple[str, str]) -> str:
    """Return the difference of a setting as text; of two dictionaries, only the first entry that differs."""
    if isinstance(one, dict) and isinstance(other, dict):
        key = next((key for key in {**one, **other} if one.get(key) != other.get(key)), None)
        if key is not None:
            return _told(f"{name}.{key}", one.get(key), other.get(key), places)
    return f"{name} is {shortened(one)} {places[0]} and {shortened(other)} {places[1]}"


def shortened(value: object) -> str:
    """Return a setting as text of at most 40 characters."""
    text = str(value)
    return text if len(text) <= 40 else f"{text[:12]}…"
