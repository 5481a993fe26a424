"""Signal → hidden states of a frozen speech model, independent of the batch.

Layer 0 is the local encoder: the features after the projection to the hidden size. Layers 1 … N-1 are the outputs of
the transformer blocks. Layer N is the encoder's output, after its final LayerNorm if the model has one. The layers are
read by hooks on the modules, because versions of transformers disagree on ``hidden_states``. The family of a model says
where these modules are, and how the padding of a batch is kept out: :class:`~featcache.extractors.families.Family`.

Statistics over time are computed in float32 in any precision. Only rounding differences remain between an utterance
alone and in a batch; :data:`~featcache.extractors.base.SAME_IN_ANY_BATCH` is their limit for each precision.
"""

from collections.abc import Sequence
from contextlib import suppress
from typing import Any

import numpy as np
import torch
import transformers
from torch import Tensor, nn
from torch.nn.utils import parametrize

from featcache.audio import Signal
from featcache.errors import AudioError, ModelError
from featcache.extractors.base import Extractor
from featcache.extractors.devices import check_precision, on
from featcache.extractors.families import INPUT, XVECTOR, Family
from featcache.extractors.models import LoadedModel, load
from featcache.extractors.padding import EnoughError, Pass
from featcache.extractors.preprocessing import unusual_settings
from featcache.extractors.pretrained import explained
from featcache.extractors.windows import check_chunks
from featcache.features import Description, Features
from featcache.layer_selection import select_layers
from featcache.settings.extractor_configs import SSLConfig
from featcache.threads import one_thread_each


class SSLExtractor(Extractor):
    """Frozen speech model: (num_layers, num_frames, hidden_size), for most families one frame per 20 ms.

    Raises:
        ModelError: the model cannot be loaded, an option or layer does not apply to it, or the device does not support
            the precision.
    """

    Config = SSLConfig
    kind = "model"
    averages_frames = False
    supports_chunks = True

    def __init__(self, config: SSLConfig, *, device: str = "cpu") -> None:
        check_precision(device, config.precision)
        loaded = load(
            config.model,
            weights=config.weights,
            revision=config.revision,
            num_blocks=config.num_blocks,
            xvector=config.layers == XVECTOR,
        )
        if device.startswith("cuda"):
            # TF32 would round the products of convolutions to 10 bits, which is less precise than float32.
            torch.backends.cudnn.allow_tf32 = False
        with one_thread_each():  # Otherwise the last digit of the norms depends on the number of cores.
            _fold_parametrizations(loaded.module)
        self._model: Any = loaded.module
        self._device = on(device)
        self._pass = Pass()
        self._family = loaded.family(loaded.module, loaded.feature_extractor)
        self._family.to(device, getattr(torch, config.precision), self._pass)
        if config.do_normalize is not None:
            if not self._family.normalises_waveform:
                raise ModelError(
                    f"--do-normalize does not apply to {self._family.title}, whose input is {self._family.reads}"
                )
            loaded.feature_extractor.do_normalize = config.do_normalize
        self._wanted = _wanted_layers(config.layers, self._family)
        self._family.attach_hooks(self._wanted, self._pass)
        self.description = self._describe(config, loaded)
        self._check_chunk_length()
        self._check_padding(config)
        with explained(config.model):
            self._try_out()
        check_chunks(self)

    def _describe(self, config: SSLConfig, loaded: LoadedModel) -> Description:
        family = self._family
        model_config = family.config
        chunks = config.chunks()
        unusual = unusual_settings(loaded.feature_extractor, family.preprocessor_entries)
        return Description(
            dataset="hidden_states",
            layer_names=self._wanted,
            hidden_size=family.width,
            frame_shift=family.frame_shift,
            sampling_rate=family.rate,
            channel="mean",
            max_seconds=config.max_seconds,
            chunks=chunks,
            padded_frames=family.padded_frames if config.keep_padding else None,
            settings={
                "extractor": "ssl",
                "model_id": loaded.model_id,
                "weights": config.weights,
                "weights_sha256": loaded.weights_sha256,
                "architecture": {name: getattr(model_config, name, None) for name in family.architecture},
                "layers": list(self._wanted),
                "do_normalize": bool(loaded.feature_extractor.do_normalize) if family.normalises_waveform else None,
                "max_seconds": config.max_seconds,
                "precision": config.precision,
                **({} if config.num_blocks is None else {"num_blocks": config.num_blocks}),
                **({"keep_padding": True} if config.keep_padding else {}),
                **(chunks.settings() if chunks else {}),
                **({"preprocessor": unusual} if unusual else {}),
                **family.settings(),
            },
            provenance={
                "model_type": model_config.model_type,
                "num_blocks": len(family.blocks),
                "num_parameters": loaded.num_parameters,
                "revision": loaded.revision or "",
                "weights_revision": loaded.weights_revision or "",
                **({"one_vector": True} if family.frame_shift is None else {}),
                "torch_version": str(torch.__version__),
                "transformers_version": transformers.__version__,
                **({} if family.input_shape is None else {"padded_to_seconds": self._longest}),
            },
        )

    def _try_out(self) -> None:
        """Compute the shortest signal, to detect model files that contradict each other.

        Raises:
            ModelError: the layers do not have the expected shapes.
        """
        family = self._family
        num_samples = family.shortest
        samples = np.zeros(num_samples, dtype=np.float32)
        if family.input_shape is not None:  # Only the input is checked: a forward pass would compute a long signal.
            expected: tuple[int, ...] = family.input_shape
            found: tuple[int, ...] = tuple(family.prepare(samples).shape)
        else:
            expected = (len(self._wanted), 1, self.description.hidden_size)
            found = self.extract([Signal(samples=samples, sampling_rate=family.rate)])[0].shape
        if found != expected:
            raise ModelError(
                f"{self.description.settings['model_id']}: cannot be loaded (its files contradict each other: a signal "
                f"of {num_samples} samples gives the shape {found}, expected {expected})"
            )

    def num_frames(self, num_samples: int, sampling_rate: int) -> int:
        return self._family.num_frames(num_samples)

    def hop(self, sampling_rate: int) -> int:
        return self._family.hop

    def peak_bytes(self, batch: int, num_samples: int, sampling_rate: int) -> int:
        if not self._device.is_cpu:
            return super().peak_bytes(batch, num_samples, sampling_rate)
        return self._family.peak_bytes(batch, num_samples, len(self._wanted))

    def extract(self, signals: Sequence[Signal]) -> list[Features]:
        return self._extract(signals, None)

    def extract_with_padding(self, signals: Sequence[Signal]) -> list[tuple[Features, Features | None]]:
        padded = self.description.padded_frames
        if padded is None:
            return super().extract_with_padding(signals)
        found: list[tuple[Features, Features | None]] = []
        for signal, whole in zip(signals, self._extract(signals, padded), strict=True):
            frames = self.num_frames(len(signal.samples), signal.sampling_rate)
            # In the same memory layout as without padding, so that sums over frames are the same to the last bit.
            found.append((np.ascontiguousarray(whole[:, :frames]), whole[:, frames:]))
        return found

    def _extract(self, signals: Sequence[Signal], kept: int | None) -> list[Features]:
        """Return the first ``kept`` frames of each signal and its padding; None for all frames of the signal."""
        num_frames = [self.num_frames(len(signal.samples), signal.sampling_rate) for signal in signals]
        for signal, frames in zip(signals, num_frames, strict=True):
            self._check_length(signal, frames)
        inputs = [self._family.prepare(signal.samples) for signal in signals]
        size = self.description.hidden_size
        features = [np.empty((len(self._wanted), kept or frames, size), dtype=np.float32) for frames in num_frames]
        for together in self._batches(inputs):
            layers = self._layers([inputs[item] for item in together], [num_frames[item] for item in together])
            for position, layer in enumerate(layers):
                for row, item in enumerate(together):
                    torch.from_numpy(features[item][position]).copy_(layer[row, : features[item].shape[1]])
        return features

    def _batches(self, inputs: Sequence[Tensor]) -> list[list[int]]:
        """Return the positions of the inputs that are computed together."""
        if self._family.masks_padding:
            return [list(range(len(inputs)))]
        by_shape: dict[tuple[int, ...], list[int]] = {}
        for item, values in enumerate(inputs):
            by_shape.setdefault(tuple(values.shape), []).append(item)
        return list(by_shape.values())

    def _layers(self, inputs: Sequence[Tensor], num_frames: Sequence[int]) -> list[Tensor]:
        """Return the requested layers of a batch, in host memory: (batch, at least max(num_frames), width) each."""

        def forward() -> list[Tensor]:
            with suppress(EnoughError):
                self._family.forward(inputs, num_frames, self._device.send, self._pass)
            return [self._family.arrange(name, self._pass.layers.pop(name)) for name in self._wanted]

        with torch.inference_mode():
            return self._device.run(forward)

    def _check_length(self, signal: Signal, num_frames: int) -> None:
        family = self._family
        if num_frames == 0:
            raise AudioError(f"{len(signal.samples)} samples at {family.rate} Hz are too short for a single frame")
        if family.longest is not None and len(signal.samples) > family.longest:
            raise AudioError(
                f"{len(signal.samples) / family.rate:.1f} s are too long for {family.title}, which processes at most "
                f"{self._longest:.4g} s; use windows with --chunk-seconds {int(self._longest) or self._longest:g}"
            )

    def _check_chunk_length(self) -> None:
        chunks, family = self.description.chunks, self._family
        if chunks and not family.supports_chunks:
            raise ModelError(
                f"--chunk-seconds does not apply to {family.title}, which describe whole utterances; limit their "
                "length with --max-seconds"
            )
        if chunks and family.longest is not None and chunks.seconds > self._longest:
            raise ModelError(
                f"--chunk-seconds is {chunks.seconds:g}, but {family.title} processes at most {self._longest:.4g} s; "
                "use a smaller value"
            )

    def _check_padding(self, config: SSLConfig) -> None:
        if config.keep_padding and self._family.padded_frames is None:
            raise ModelError(f"--keep-padding applies to Whisper only, not to {self._family.title}; omit it")
        if config.keep_padding and self.description.chunks:
            raise ModelError(
                "--keep-padding and --chunk-seconds exclude each other: windows have no padding; omit one of them"
            )

    @property
    def _longest(self) -> float:
        """Longest signal that the model processes, in seconds."""
        return np.inf if self._family.longest is None else self._family.longest / self._family.rate


def _fold_parametrizations(module: nn.Module) -> None:
    """Compute the positional convolution's weights once; each pass would compute them from direction and norm."""
    for part in module.modules():
        if parametrize.is_parametrized(part, "weight"):
            parametrize.remove_parametrizations(part, "weight", leave_parametrized=True)


def _wanted_layers(spec: str, family: Family) -> tuple[str, ...]:
    names = family.layer_names
    if spec == "all":
        return tuple(name for name in names if name != INPUT)
    return tuple(names[i] for i in select_layers(spec, names, num_blocks=len(family.blocks)))
