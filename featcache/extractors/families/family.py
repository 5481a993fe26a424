"""Model files → a family: how its models are built, what they read, and where their layers are.

Everything that distinguishes one architecture from another is in its family.
:class:`~featcache.extractors.ssl.SSLExtractor` and :mod:`featcache.extractors.models` contain no name of an
architecture.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar

from featcache.errors import ModelError
from featcache.extractors.checkpoint import Checkpoint
from featcache.extractors.families.starts_from_stores import StartsFromStores
from featcache.extractors.pretrained import pretrained_module, read_configuration

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt
    import torch
    from torch import Tensor

    from featcache.extractors.padding import Pass

INPUT = "input"
"""Name of the encoder's input after positional convolution: Hugging Face's ``hidden_states[0]``."""
# Configuration entries that affect the features, in addition to the weights and their shapes. They identify stores: the
# list of an existing family must not change.
ARCHITECTURE = (
    "activation_function",
    "conv_stride",
    "do_stable_layer_norm",
    "encoder_attention_heads",
    "feat_extract_activation",
    "hidden_act",
    "layer_norm_eps",
    "max_bucket_distance",
    "num_attention_heads",
    "num_conv_pos_embedding_groups",
    "scale_embedding",
)


class Family(StartsFromStores, ABC):
    """Family of speech models. The class describes all its models; an instance runs one loaded model.

    To add a family, write one file with a subclass, and one line in
    :data:`featcache.extractors.families.FAMILIES`. A subclass defines the attributes below, :attr:`blocks`,
    :attr:`hop`, :attr:`shortest`, :meth:`num_frames` and :meth:`peak_bytes`; the other methods have defaults. The
    following holds for every family, and the tests in ``tests/extractors`` check it:

    - Loading: with ``class_name``, transformers loads its class of this name. For an own ``nn.Module``, see
      :class:`~featcache.extractors.families.own_family.OwnFamily`. The module has an attribute ``config`` with
      ``model_type``; its entries ``blocks_entry`` and ``size_entry`` are the number of blocks and the hidden size.
    - Layers: :attr:`blocks` is a ``ModuleList`` that can be shortened. :attr:`local` is the module whose output is
      layer 0, or None if layer 0 is the input of the first block. :attr:`last` is the module whose output is layer N,
      after the final LayerNorm. A module's output is a tensor, or a tuple or output object whose first item is the
      tensor: (batch, time, hidden_size). :meth:`arrange` removes tokens that are no frames.
    - Frames: :meth:`num_frames`, :attr:`hop` and :attr:`shortest` agree with the model for every length.
    - Batches: with ``masks_padding``, :meth:`forward` receives inputs of several lengths and excludes the padding.
      Without it, only inputs of equal shape are computed together, and the default :meth:`forward` is enough.
    - Half precision: override :meth:`to` if a part must stay in float32, such as statistics over time and positions.
    - State: a forward pass must not change the module, because several threads use it.

    Args:
        module: The loaded model, or the part of it that :meth:`part` returns; it has an attribute ``config``.
        feature_extractor: Object with ``sampling_rate`` in Hz, which :meth:`prepare` uses; for most families a feature
            extractor of transformers.

    Attributes:
        model_types: ``model_type`` of the configurations, the usual one first.
        title: Name of the family in messages, such as ``Whisper``.
        reads: Input of the models in messages, such as ``log-mel spectrograms``.
        class_name: Class of transformers that contains the encoder.
        since: First version of transformers with this class.
        feature_extractor_name: Class of transformers that prepares the input.
        needs_preprocessor: Whether pretrained models need a ``preprocessor_config.json``.
        normalises_waveform: Whether ``do_normalize`` applies: whether waveforms may be normalised to mean 0 and
            variance 1.
        has_input_layer: Whether the input of the first block differs from layer 0, so that there is a layer ``input``.
        masks_padding: Whether signals of different lengths are computed together.
        blocks_entry: Configuration entry with the number of blocks.
        size_entry: Configuration entry with the hidden size.
        default_dimensions: Number of blocks and hidden size of a configuration without these entries.
        transcribes: Whether the models can transcribe speech.
        supports_chunks: Whether long signals may be computed in windows.
        usual_frame_shift: Time between two frames of the published models, in seconds.
        architecture: Configuration entries that affect the features, which identify a store.
        preprocessor_entries: Entries of the feature extractor that affect the features, which identify a store.
        unused: Parts of parameter names; parameters with such a name may be missing in a checkpoint.
        weight_prefixes: Prefixes of the model's parameters in checkpoints that contain more than the model, as
            :func:`~featcache.extractors.checkpoint.prefix_of` takes them. Only an own :meth:`load` needs others than
            the default.
    """

    model_types: ClassVar[tuple[str, ...]]
    title: ClassVar[str]
    reads: ClassVar[str] = "waveforms"
    class_name: ClassVar[str] = ""
    since: ClassVar[str] = "4.48"
    feature_extractor_name: ClassVar[str] = "Wav2Vec2FeatureExtractor"
    needs_preprocessor: ClassVar[bool] = True
    normalises_waveform: ClassVar[bool] = False
    has_input_layer: ClassVar[bool] = False
    masks_padding: ClassVar[bool] = False
    blocks_entry: ClassVar[str] = "num_hidden_layers"
    size_entry: ClassVar[str] = "hidden_size"
    default_dimensions: ClassVar[tuple[int, int]] = (12, 768)
    transcribes: ClassVar[bool] = False
    supports_chunks: ClassVar[bool] = True
    usual_frame_shift: ClassVar[float] = 0.020
    architecture: ClassVar[tuple[str, ...]] = ARCHITECTURE
    preprocessor_entries: ClassVar[tuple[str, ...]] = ()
    unused: ClassVar[tuple[str, ...]] = ("masked_spec_embed", "decoder")
    weight_prefixes: ClassVar[tuple[str, ...]] = ("",)

    def __init__(self, module: Any, feature_extractor: Any) -> None:
        self.module = module
        self.feature_extractor = feature_extractor
        self.config = module.config
        self.dtype: torch.dtype | None = None

    # Before a model is loaded.

    @classmethod
    def model_class(cls) -> Any:
        """Return the class of the model, which is created from a configuration.

        Raises:
            ModelError: the installed version of transformers does not have the class.
        """
        import transformers

        found = getattr(transformers, cls.class_name, None)
        if found is None:
            raise ModelError(
                f"transformers {transformers.__version__} has no {cls.class_name}, which {cls.title} needs; install "
                f"transformers {cls.since} or another version that has it"
            )
        return found

    @classmethod
    def configuration(cls, entries: Mapping[str, Any]) -> Any:
        """Return the configuration of a model from the entries of a ``config.json``; missing entries have defaults."""
        import transformers

        cls.model_class()  # An error here is clearer than that of an unknown model_type.
        return transformers.AutoConfig.for_model(cls.model_types[0], **entries)

    @classmethod
    def read_configuration(cls, checkpoint: Checkpoint) -> Any:
        """Return the configuration of an open checkpoint, whose content is ``checkpoint.config``."""
        cls.model_class()
        return read_configuration(checkpoint)

    @classmethod
    def dimensions(cls, entries: Mapping[str, Any]) -> tuple[int, int]:
        """Return the number of layers and the hidden size from the entries of a ``config.json``, without loading.

        Raises:
            ValueError: an entry is not a whole number.
        """
        names = (cls.blocks_entry, cls.size_entry)
        given = {name: entries.get(name, usual) for name, usual in zip(names, cls.default_dimensions, strict=True)}
        for name, value in given.items():
            if not isinstance(value, int):
                raise ValueError(f"config.json has {name!r}: {value!r}, expected a whole number")
        return given[cls.blocks_entry] + 1, given[cls.size_entry]

    @classmethod
    def shorten(cls, config: Any, num_blocks: int | None, source: str) -> None:
        """Reduce a configuration to the first blocks.

        Args:
            config: Configuration, which is changed.
            num_blocks: Number of blocks to keep; None keeps all.
            source: Name of the model, for messages.

        Raises:
            ModelError: the model has fewer blocks, or the number is not positive.
        """
        if num_blocks is None:
            return
        there = getattr(config, cls.blocks_entry)
        if not 1 <= num_blocks <= there:
            raise ModelError(f"--num-blocks is {num_blocks}, expected 1 to {there}, the number of blocks of {source}")
        setattr(config, cls.blocks_entry, num_blocks)

    @classmethod
    def load(cls, checkpoint: Checkpoint, config: Any) -> Any:
        """Return a model with the weights of a checkpoint, from safetensors files.

        Args:
            checkpoint: Open checkpoint with weights.
            config: Configuration, already shortened.

        Returns:
            The whole module; an instance takes the part of it that :meth:`part` returns.

        Raises:
            ModelError: weights are missing or have another shape, or the model does not fit into memory.
        """
        return pretrained_module(cls.model_class(), checkpoint, config, unused=cls.unused)

    @classmethod
    def part(cls, module: Any) -> Any:
        """Return the part of a model that computes the hidden states, such as the encoder without the decoder."""
        return module

    @classmethod
    def lasting_name(cls, parameter: str) -> str:
        """Return the name of a parameter in all versions of transformers; the hash of the weights contains it."""
        return parameter

    @classmethod
    def new_feature_extractor(cls, config: Any, *, do_normalize: bool | None) -> Any:
        """Return the feature extractor of an untrained model.

        Args:
            config: Configuration of the model.
            do_normalize: Whether waveforms are normalised; None if that does not apply.
        """
        import transformers

        return getattr(transformers, cls.feature_extractor_name)(do_normalize=do_normalize)

    @classmethod
    def unfit(cls, feature_extractor: Any, config: Any) -> str | None:
        """Return why the feature extractor of a checkpoint does not fit its model; None if it fits."""
        return differing("feature_size", feature_extractor.feature_size, 1)

    # A loaded model.

    @property
    def encoder(self) -> Any:
        """The module whose forward pass computes the hidden states."""
        return self.module

    @property
    @abstractmethod
    def blocks(self) -> Any:
        """The transformer blocks: a list of modules that can be shortened."""

    @property
    def local(self) -> Any:
        """The module whose output is layer 0; None if layer 0 is the input of the first block."""
        return None

    @property
    def last(self) -> Any:
        """The module whose output is layer N."""
        return self.encoder

    @property
    def layer_names(self) -> tuple[str, ...]:
        """Names of the layers that can be selected; the names without numbers are not part of ``all``."""
        numbered = tuple(str(number) for number in range(len(self.blocks) + 1))
        return (*numbered, INPUT) if self.has_input_layer else numbered

    @property
    def width(self) -> int:
        """Number of values per frame and layer."""
        return int(getattr(self.config, self.size_entry))

    @property
    def rate(self) -> int:
        """Sampling rate of the signals, in Hz."""
        return int(self.feature_extractor.sampling_rate)

    @property
    @abstractmethod
    def hop(self) -> int:
        """Number of samples between two frames."""

    @property
    def frame_shift(self) -> float | None:
        """Time between two frames, in seconds; None if there is one vector per utterance."""
        return self.hop / self.rate

    @property
    @abstractmethod
    def shortest(self) -> int:
        """Number of samples of the shortest signal with a frame."""

    @property
    def longest(self) -> int | None:
        """Number of samples of the longest signal that the model processes; None for no limit."""
        return None

    @property
    def input_shape(self) -> tuple[int, ...] | None:
        """Shape of the input if it is the same for all signals, which are then padded; None if it depends on them."""
        return None

    @property
    def padded_frames(self) -> int | None:
        """Number of frames of every signal with its padding, of which the blocks can start; None if there are none."""
        return None

    @abstractmethod
    def num_frames(self, num_samples: int) -> int:
        """Return the number of frames of a signal, without a limit of its length; 0 if it is too short."""

    @abstractmethod
    def peak_bytes(self, batch: int, num_samples: int, num_layers: int) -> int:
        """Estimate the peak memory of a batch of equally long signals on the CPU, without the model itself.

        Args:
            batch: Number of signals.
            num_samples: Samples of each signal.
            num_layers: Number of layers that are kept.

        Returns:
            The estimate in bytes.
        """

    def settings(self) -> dict[str, Any]:
        """Return further settings that affect the features and identify a store, as plain JSON values."""
        return {}

    def to(self, device: str, dtype: "torch.dtype", current: "Pass") -> None:
        """Move the model to a device and a dtype.

        Args:
            device: Torch device.
            dtype: Dtype in which the model computes. Statistics over time and positions must stay in float32.
            current: Masks of the forward pass, for parts that exclude the padding.
        """
        self.dtype = dtype
        self.module.to(device, dtype)

    def attach_hooks(self, names: Sequence[str], current: "Pass") -> None:
        """Attach hooks that keep the requested layers, and stop the forward pass after the highest one."""
        highest = max(names, key=lambda name: 0.5 if name == INPUT else int(name))
        for name in names:
            enough = name == highest
            if name == INPUT or (name == "0" and self.local is None):
                self.blocks[0].register_forward_pre_hook(current.keep_input(name, enough), with_kwargs=True)
            elif name == "0":
                self.local.register_forward_hook(current.keep_output(name, enough))
            elif name == str(len(self.blocks)):
                self.last.register_forward_hook(current.keep_output(name, enough=False))
            else:
                self.blocks[int(name) - 1].register_forward_hook(current.keep_output(name, enough))

    def prepare(self, samples: "npt.NDArray[np.float32]") -> "Tensor":
        """Return the model's input for one signal, without the batch axis.

        Args:
            samples: (num_samples,) float32, mono.

        Returns:
            The input, float32: (num_samples,) for a waveform.
        """
        import numpy as np
        import torch

        # One signal at a time, because padding by transformers' feature extractor would affect the normalisation.
        found = self.feature_extractor(samples, sampling_rate=self.rate)
        (name,) = (name for name in ("input_values", "input_features") if name in found)
        return torch.from_numpy(np.asarray(found[name][0], dtype=np.float32))

    def forward(
        self,
        inputs: "Sequence[Tensor]",
        num_frames: Sequence[int],
        send: "Callable[[Tensor], Tensor]",
        current: "Pass",
    ) -> None:
        """Run the model. The hooks keep the layers in ``current.layers``.

        Args:
            inputs: Input of each signal, on the host. Their shapes are equal, unless the family masks the padding.
            num_frames: Number of frames of each signal.
            send: Function that copies a tensor to the device of the model.
            current: Masks and layers of this forward pass.
        """
        import torch

        self.encoder(send(torch.stack(list(inputs))).to(self.dtype))

    def arrange(self, name: str, layer: "Tensor") -> "Tensor":
        """Return the frames of a layer as they are stored.

        Args:
            name: Name of the layer.
            layer: (batch, time, hidden_size), as the hook kept it.

        Returns:
            (batch, at least num_frames, width); the frames after the last one of a signal are not read.
        """
        return layer


def differing(name: str, found: Any, expected: Any) -> str | None:
    """Return the message for an entry of a feature extractor that does not fit its model; None if it fits."""
    return None if found == expected else f"has {name!r}: {found!r}, but the model expects {expected}"
