"""Signal → hidden states of a frozen self-supervised speech model, independent of the batch.

Layer 0 is the local encoder: the convolutional features after the projection to the hidden size. Layers 1 … N-1 are
the outputs of the transformer blocks. Layer N is the encoder's output, after its final LayerNorm if the model has one.
The layers are read by hooks on the modules, because versions of transformers disagree on ``hidden_states``.

In a padded batch, the padding could change an utterance's features in three places. Each is handled here:

- GroupNorm in the first convolution (wav2vec2-base and similar models) averages over time.
  :class:`~featcache.extractors.padding.ValidGroupNorm` computes mean and variance over each utterance's own frames.
- Self-attention reads all frames. The models' own attention mask excludes the padding.
- data2vec's positional convolutions, and the batch norm before those of some HuBERT models, write values into the
  padding. These values are set to zero before the next convolution.

Statistics over time are computed in float32 in any precision. Only rounding differences remain between an utterance
alone and in a batch; :data:`~featcache.extractors.base.SAME_IN_ANY_BATCH` is their limit for each precision.
"""

import os
import warnings
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
from featcache.extractors.footprint import waveform_bytes, whisper_bytes
from featcache.extractors.models import ARCHITECTURE, LoadedModel, blocks_of, load
from featcache.extractors.padding import EnoughError, Pass, ValidGroupNorm, keep_padding_out
from featcache.extractors.preprocessing import unusual_settings
from featcache.extractors.pretrained import explained
from featcache.extractors.windows import check_chunks
from featcache.features import Description, Features
from featcache.layer_selection import select_layers
from featcache.settings.extractor_configs import SSLConfig
from featcache.threads import one_thread_each

# oneDNN compiles convolutions for each utterance length. By default it keeps the last 1024 of them, half a gigabyte for
# a base model, but few are used again. It reads this variable when it compiles the first convolution.
os.environ.setdefault("ONEDNN_PRIMITIVE_CACHE_CAPACITY", "64")

# WavLM itself uses two masks of different types. The filter is never removed, as catch_warnings is not safe in threads.
warnings.filterwarnings("ignore", "Support for mismatched key_padding_mask", UserWarning)

INPUT = "input"  # the encoder's input after positional convolution: Hugging Face's hidden_states[0]


class SSLExtractor(Extractor):
    """Frozen speech model: (num_layers, num_frames, hidden_size), one frame per 20 ms.

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
        loaded = load(config.model, weights=config.weights, revision=config.revision, num_blocks=config.num_blocks)
        self._dtype: torch.dtype = getattr(torch, config.precision)
        if device.startswith("cuda"):
            # TF32 would round the products of convolutions to 10 bits, which is less precise than float32.
            torch.backends.cudnn.allow_tf32 = False
        with one_thread_each():  # Otherwise the last digit of the norms depends on the number of cores.
            _fold_parametrizations(loaded.module)
        self._model: Any = loaded.module
        self._device = on(device)
        self._feature_extractor = loaded.feature_extractor
        self._rate: int = self._feature_extractor.sampling_rate
        self._whisper = self._model.config.model_type == "whisper"
        self._pass = Pass()
        if self._whisper:
            self._model.to(device, self._dtype)
        else:
            keep_padding_out(self._model, self._pass, device, self._dtype)
        if config.do_normalize is not None:
            if self._whisper:
                raise ModelError("--do-normalize does not apply to Whisper, whose input is log-mel spectrograms")
            self._feature_extractor.do_normalize = config.do_normalize
        self._wanted = _wanted_layers(config.layers, len(self._blocks), whisper=self._whisper)
        self._attach_hooks()
        self.description = self._describe(config, loaded)
        chunks = self.description.chunks
        if chunks and self._whisper and chunks.seconds > self._longest:
            raise ModelError(
                f"--chunk-seconds is {chunks.seconds:g}, but Whisper processes at most {self._longest:g} s; use a "
                "smaller value"
            )
        with explained(config.model):
            self._try_out()
        check_chunks(self)

    def _describe(self, config: SSLConfig, loaded: LoadedModel) -> Description:
        model_config = self._model.config
        chunks = config.chunks()
        unusual = unusual_settings(self._feature_extractor)
        is_float16 = self._dtype == torch.float16
        return Description(
            dataset="hidden_states",
            layer_names=self._wanted,
            hidden_size=model_config.d_model if self._whisper else model_config.hidden_size,
            frame_shift=self._hop / self._rate,
            sampling_rate=self._rate,
            channel="mean",
            max_seconds=config.max_seconds,
            chunks=chunks,
            settings={
                "extractor": "ssl",
                "model_id": loaded.model_id,
                "weights": config.weights,
                "weights_sha256": loaded.weights_sha256,
                "architecture": {name: getattr(model_config, name, None) for name in ARCHITECTURE},
                "layers": list(self._wanted),
                "do_normalize": None if self._whisper else bool(self._feature_extractor.do_normalize),
                "max_seconds": config.max_seconds,
                "precision": config.precision,
                **({} if config.num_blocks is None else {"num_blocks": config.num_blocks}),
                **(chunks.settings() if chunks else {}),
                **({"preprocessor": unusual} if unusual else {}),
                # Earlier releases summed over time in float16, which overflowed. Their stores have no such entry.
                **({"statistics_precision": "float32"} if self._normalises_over_time and is_float16 else {}),
            },
            provenance={
                "model_type": model_config.model_type,
                "num_blocks": len(self._blocks),
                "revision": loaded.revision or "",
                "weights_revision": loaded.weights_revision or "",
                "torch_version": str(torch.__version__),
                "transformers_version": transformers.__version__,
            },
        )

    def _try_out(self) -> None:
        """Compute the shortest signal, to detect model files that contradict each other.

        Raises:
            ModelError: the layers do not have the expected shapes.
        """
        num_samples = self._shortest()
        if self._whisper:  # Only the input is checked, because any forward pass takes as long as for 30 s.
            expected: tuple[int, ...] = (self._model.config.num_mel_bins, 2 * self._model.config.max_source_positions)
            found: tuple[int, ...] = tuple(self._inputs([np.zeros(num_samples, dtype=np.float32)])[0].shape)
        else:
            signal = Signal(samples=np.zeros(num_samples, dtype=np.float32), sampling_rate=self._rate)
            expected = (len(self._wanted), 1, self.description.hidden_size)
            found = self.extract([signal])[0].shape
        if found != expected:
            raise ModelError(
                f"{self.description.settings['model_id']}: cannot be loaded (its files contradict each other: a signal "
                f"of {num_samples} samples gives the shape {found}, expected {expected})"
            )

    def _shortest(self) -> int:
        """Return the number of samples of the shortest signal with a frame."""
        if self._whisper:
            return self._hop
        convolutions = zip(self._model.config.conv_kernel, self._model.config.conv_stride, strict=True)
        num_samples = 1
        for kernel, stride in reversed(list(convolutions)):
            num_samples = (num_samples - 1) * stride + kernel
        return num_samples

    def num_frames(self, num_samples: int, sampling_rate: int) -> int:
        if self._whisper:
            return -(-num_samples // self._hop)
        return _frames_after(self._model.config, num_samples, len(self._model.config.conv_kernel))

    def hop(self, sampling_rate: int) -> int:
        return self._hop

    def peak_bytes(self, batch: int, num_samples: int, sampling_rate: int) -> int:
        if not self._device.is_cpu:
            return super().peak_bytes(batch, num_samples, sampling_rate)
        config, layers = self._model.config, len(self._wanted)
        if self._whisper:
            return whisper_bytes(config, batch, num_samples, layers)
        frames = self.num_frames(num_samples, sampling_rate)
        return waveform_bytes(config, batch, num_samples, _frames_after(config, num_samples, 1), frames, layers)

    def extract(self, signals: Sequence[Signal]) -> list[Features]:
        num_frames = [self.num_frames(len(signal.samples), signal.sampling_rate) for signal in signals]
        for signal, frames in zip(signals, num_frames, strict=True):
            self._check_length(signal, frames)
        inputs = self._inputs([signal.samples for signal in signals])

        def forward() -> list[Tensor]:
            with suppress(EnoughError):
                self._forward(inputs, num_frames)
            return [self._pass.layers.pop(name) for name in self._wanted]

        with torch.inference_mode():
            layers = self._device.run(forward)
        features = [np.empty((len(layers), frames, layers[0].shape[-1]), dtype=np.float32) for frames in num_frames]
        for position, layer in enumerate(layers):
            for item, frames in enumerate(num_frames):
                torch.from_numpy(features[item][position]).copy_(layer[item, :frames])
        return features

    def _inputs(self, samples: Sequence[np.ndarray[Any, Any]]) -> list[Tensor]:
        """Return the model's input for each signal: its normalised samples, or its log-mel spectrogram."""
        # One signal at a time, because padding by transformers' feature extractor would affect the normalisation.
        name = "input_features" if self._whisper else "input_values"
        one_by_one = (self._feature_extractor(item, sampling_rate=self._rate)[name][0] for item in samples)
        return [torch.from_numpy(np.asarray(item, dtype=np.float32)) for item in one_by_one]

    def _forward(self, inputs: Sequence[Tensor], num_frames: Sequence[int]) -> None:
        if self._whisper:
            self._model(self._device.send(torch.stack(list(inputs))).to(self._dtype))
            return
        values = self._device.send(nn.utils.rnn.pad_sequence(list(inputs), batch_first=True)).to(self._dtype)
        lengths = [len(item) for item in inputs]
        if len(set(lengths)) == 1:
            self._pass.mask = self._pass.first_convolution_mask = None
            self._model(values)
            return
        first = [_frames_after(self._model.config, length, 1) for length in lengths]
        self._pass.first_convolution_mask = self._device.send(_mask(first))
        self._pass.mask = self._device.send(_mask(num_frames))
        self._model(values, attention_mask=self._device.send(_mask(lengths)).to(torch.long))

    def _check_length(self, signal: Signal, num_frames: int) -> None:
        if num_frames == 0:
            raise AudioError(f"{len(signal.samples)} samples at {self._rate} Hz are too short for a single frame")
        if self._whisper and num_frames > self._model.config.max_source_positions:
            raise AudioError(
                f"{len(signal.samples) / self._rate:.1f} s are too long for Whisper, which processes at most "
                f"{self._longest:.0f} s; use windows with --chunk-seconds {self._longest:.0f}"
            )

    @property
    def _longest(self) -> float:
        """Longest signal that Whisper processes, in seconds."""
        return float(self._model.config.max_source_positions * self._hop / self._rate)

    @property
    def _hop(self) -> int:
        """Number of samples between two frames."""
        if self._whisper:
            return int(self._feature_extractor.hop_length) * 2  # the second convolution has stride 2
        return int(np.prod(self._model.config.conv_stride))

    @property
    def _blocks(self) -> Any:
        return blocks_of(self._model)

    @property
    def _normalises_over_time(self) -> bool:
        return not self._whisper and any(isinstance(part, ValidGroupNorm) for part in self._model.modules())

    def _attach_hooks(self) -> None:
        """Attach hooks that keep the requested layers and stop after the highest one."""
        encoder = self._model if self._whisper else self._model.encoder
        highest = max(self._wanted, key=lambda name: 0.5 if name == INPUT else int(name))
        for name in self._wanted:
            enough = name == highest
            if name == INPUT or (self._whisper and name == "0"):
                self._blocks[0].register_forward_pre_hook(self._pass.keep_input(name, enough), with_kwargs=True)
            elif name == "0":
                self._model.feature_projection.register_forward_hook(self._pass.keep_output(name, enough))
            elif name == str(len(self._blocks)):
                encoder.register_forward_hook(self._pass.keep_output(name, enough=False))
            else:
                self._blocks[int(name) - 1].register_forward_hook(self._pass.keep_output(name, enough))


def _fold_parametrizations(module: nn.Module) -> None:
    """Compute the positional convolution's weights once; each pass would compute them from direction and norm."""
    for part in module.modules():
        if parametrize.is_parametrized(part, "weight"):
            parametrize.remove_parametrizations(part, "weight", leave_parametrized=True)


def _wanted_layers(spec: str, num_blocks: int, *, whisper: bool) -> tuple[str, ...]:
    numbered = tuple(str(number) for number in range(num_blocks + 1))
    if spec == "all":
        return numbered
    names = numbered if whisper else (*numbered, INPUT)  # Whisper's layer 0 already is the encoder's input.
    return tuple(names[i] for i in select_layers(spec, names, num_blocks=num_blocks))


def _frames_after(config: Any, num_samples: int, num_convolutions: int) -> int:
    for kernel, stride in zip(config.conv_kernel[:num_convolutions], config.conv_stride, strict=False):
        num_samples = (num_samples - kernel) // stride + 1
    return max(0, num_samples)


def _mask(lengths: Sequence[int]) -> Tensor:
    return torch.arange(max(lengths)) < torch.tensor(lengths)[:, None]
