"""Family whose model is an own class, which transformers does not have."""

from abc import abstractmethod
from collections.abc import Mapping
from typing import Any, ClassVar

from featcache.extractors.checkpoint import Checkpoint
from featcache.extractors.families.family import Family
from featcache.extractors.own_modules import own_module


class OwnFamily(Family):
    """Family whose module is an own ``nn.Module``, loaded from ``config.json`` and ``model.safetensors``.

    A subclass overrides :meth:`model_class` (a class that is created from the configuration, imported inside the
    method, because this package is imported without torch) and :attr:`config_class`. A checkpoint needs no
    ``preprocessor_config.json``; a subclass overrides :meth:`new_feature_extractor` to return an object with
    ``sampling_rate``, and :meth:`prepare` if the input is not that of wav2vec 2.0. :attr:`architecture` must list all
    configuration entries that affect the features.

    Attributes:
        config_class: Class of configurations, with keyword arguments for the entries of ``config.json``, defaults for
            all of them, and an attribute ``model_type``. It ignores unknown entries and raises ValueError for invalid
            ones.
    """

    config_class: ClassVar[type[Any]]
    needs_preprocessor = False
    unused = ()

    @classmethod
    @abstractmethod
    def model_class(cls) -> Any:
        """Return the class of the module."""

    @classmethod
    def configuration(cls, entries: Mapping[str, Any]) -> Any:
        return cls.config_class(**entries)

    @classmethod
    def read_configuration(cls, checkpoint: Checkpoint) -> Any:
        return cls.config_class(**{name: value for name, value in checkpoint.config.items() if name != "model_type"})

    @classmethod
    def load(cls, checkpoint: Checkpoint, config: Any) -> Any:
        return own_module(cls.model_class(), checkpoint, config, prefixes=cls.weight_prefixes, unused=cls.unused)
