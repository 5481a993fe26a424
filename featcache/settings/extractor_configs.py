"""Configuration of each built-in extractor: the fields are its options, its part of a YAML store, and its identity.

Nothing heavy is imported here, so that the command line shows these options without loading a model.
"""

from dataclasses import dataclass
from typing import Any, Literal

from featcache.errors import ModelError
from featcache.settings.field import setting, settings_of

ChannelPolicy = Literal["mean", "first"]
CHUNK_OPTIONS = ("chunk_seconds", "overlap_seconds")
OVERLAP_SECONDS = 2.0
MANIFEST = "manifest"
"""Name of the manifest's transcripts in the settings of a store."""


@dataclass(frozen=True, kw_only=True)
class Chunks:
    """Windows in which long utterances are computed.

    Attributes:
        seconds: Length of a window, in seconds. Shorter utterances are computed as a whole.
        overlap: Minimum overlap of neighbouring windows, in seconds.
    """

    seconds: float
    overlap: float

    def settings(self) -> dict[str, float]:
        """Return both values under their names in the settings of a store."""
        return dict(zip(CHUNK_OPTIONS, (self.seconds, self.overlap), strict=True))


@dataclass(frozen=True, kw_only=True)
class ChunkConfig:
    """Options of all extractors: windows for long utterances.

    Attributes:
        chunk_seconds: Length of a window, in seconds; None computes every utterance as a whole.
        overlap_seconds: Overlap of neighbouring windows, in seconds; None is two seconds.
    """

    chunk_seconds: float | None = setting(
        None,
        "Window length for longer utterances, in seconds; limits memory and affects results [default: none; every "
        "utterance is computed as a whole].",
        minimum=0,
    )
    overlap_seconds: float | None = setting(
        None, "Overlap of neighbouring windows, in seconds [default: 2].", minimum=0
    )

    def chunks(self) -> Chunks | None:
        """Return the length and overlap of the windows, or None if every utterance is computed as a whole.

        Raises:
            ModelError: The overlap is given without a window length, or is not shorter than the window.
        """
        if self.chunk_seconds is None:
            if self.overlap_seconds is not None:
                raise ModelError(
                    "--overlap-seconds has no effect without windows; add --chunk-seconds with their length"
                )
            return None
        overlap = OVERLAP_SECONDS if self.overlap_seconds is None else self.overlap_seconds
        if not 0 <= overlap < self.chunk_seconds:
            raise ModelError(
                f"--overlap-seconds is {overlap:g}, expected less than --chunk-seconds, which is {self.chunk_seconds:g}"
            )
        return Chunks(seconds=float(self.chunk_seconds), overlap=float(overlap))

    def settings(self) -> dict[str, Any]:
        """Return name → value for the settings of a store; without windows, their options are omitted."""
        chunks = self.chunks()
        plain = {name: getattr(self, name) for name, (_, about) in settings_of(type(self)).items() if about.identity}
        plain = {name: value for name, value in plain.items() if name not in CHUNK_OPTIONS}
        return {**plain, **(chunks.settings() if chunks else {})}


@dataclass(frozen=True, kw_only=True)
class AudioConfig(ChunkConfig):
    """Options of extractors of acoustic features: sampling rate, channel and length of the signal.

    Attributes:
        sampling_rate: Sampling rate to which signals are resampled, in Hz; None keeps the file's own.
        channel: ``mean`` of the channels, or the ``first`` channel.
        max_seconds: Used length from the beginning of each utterance, in seconds; None is the whole utterance.
    """

    sampling_rate: int | None = setting(
        None,
        "Sampling rate to which signals are resampled, in Hz; 0 keeps the file's own [default: 16000 for spectrograms, "
        "otherwise 0].",
        minimum=0,
    )
    channel: Literal["mean", "first"] = setting("mean", "Channel to use: the mean of all channels, or the first one.")
    max_seconds: float | None = setting(
        None, "Used length from the beginning of each utterance, in seconds [default: the whole utterance].", minimum=0
    )


@dataclass(frozen=True, kw_only=True)
class EgemapsConfig(AudioConfig):
    """Options of the eGeMAPS extractor.

    The default sampling rate, which is the file's own, follows Pepino et al. 2021. They used the ``first`` channel.

    Windows (``chunk_seconds``, low-level descriptors only) that overlap by two seconds give the same values as the
    whole signal, except for jitter and shimmer. openSMILE follows the periods of a voice from its onset. Jitter and
    shimmer are therefore also the same if the voice pauses between the beginning of a window and the first frame that
    is taken from this window. On 577 s of concatenated RAVDESS and EmoDB audio, in windows of 10 s, no value differed.
    In one minute of voice without a pause, the root mean square difference was 0.5 standard deviations for jitter and
    0.2 for shimmer.

    Attributes:
        level: ``lld`` for 25 low-level descriptors every 10 ms, or ``functionals`` for 88 values per utterance.
    """

    level: Literal["lld", "functionals"] = setting(
        "lld", "Low-level descriptors of each frame (lld), or functionals of the whole utterance (functionals)."
    )


@dataclass(frozen=True, kw_only=True)
class OpensmileConfig(AudioConfig):
    """Options of other openSMILE feature sets.

    Attributes:
        feature_set: Name of a feature set of the opensmile package, such as ``GeMAPSv01b``, or a configuration file
            (``*.conf``). It follows the colon in ``--model opensmile:GeMAPSv01b``.
        level: ``lld`` for low-level descriptors, ``lld_de`` for their deltas, or ``functionals`` for one vector per
            utterance. A configuration file may define other levels.
    """

    feature_set: str = setting(help="Feature set of openSMILE, such as GeMAPSv01b, or a configuration file.")
    level: str = setting(
        "lld", "Low-level descriptors (lld), their deltas (lld_de), or functionals of the utterance (functionals)."
    )


@dataclass(frozen=True, kw_only=True)
class SpectrogramConfig(AudioConfig):
    """Options of the linear magnitude spectrogram.

    The defaults are the values printed in Pepino et al. 2021. Their code for RAVDESS uses ``window="400samples"``,
    ``hop="320samples"``, ``sampling_rate=None`` and ``n_fft=512``.

    Attributes:
        window: Length of the Hann window, such as ``25ms`` or ``400samples``.
        hop: Distance between neighbouring frames, such as ``10ms`` or ``320samples``.
        n_fft: Length of the Fourier transform, in samples; None is the smallest power of two that is not shorter than
            the window.
        center: Whether frame t is centred at t hops, with zero padding around the signal. Otherwise it begins there.
    """

    sampling_rate: int | None = setting(
        16000,
        "Sampling rate to which signals are resampled, in Hz; 0 keeps the file's own.",
        minimum=0,
    )
    window: str = setting("25ms", "Length of the Hann window, such as 25ms or 400samples.")
    hop: str = setting("10ms", "Distance between neighbouring frames, such as 10ms or 320samples.")
    n_fft: int | None = setting(
        None,
        "Length of the Fourier transform, in samples [default: the smallest power of two not below the window length].",
        minimum=2,
    )
    center: bool = setting(
        True, "Centre frame t at t hops, with zero padding around the signal; otherwise it begins there."
    )


@dataclass(frozen=True, kw_only=True)
class LogMelConfig(SpectrogramConfig):
    """Options of the log-mel spectrogram: the decimal logarithm of the power in librosa's mel bands.

    Attributes:
        n_mels: Number of mel bands.
        fmin: Lower edge of the lowest band, in Hz.
        fmax: Upper edge of the highest band, in Hz; None is half the sampling rate.
        htk: Whether the mel scale is HTK's. Otherwise it is Slaney's.
        floor: Smallest power before the logarithm, so that the logarithm of silence is finite.
    """

    n_mels: int = setting(80, "Number of mel bands.", minimum=1)
    fmin: float = setting(0.0, "Lower edge of the lowest mel band, in Hz.", minimum=0)
    fmax: float | None = setting(
        None, "Upper edge of the highest mel band, in Hz [default: half the sampling rate].", above=0
    )
    htk: bool = setting(False, "Use the mel scale of HTK; otherwise that of Slaney.")
    floor: float = setting(1e-10, "Smallest power before the logarithm; lower values are raised to it.", above=0)


@dataclass(frozen=True, kw_only=True)
class SSLConfig(ChunkConfig):
    """Options of speech models.

    With windows (``chunk_seconds``), the model processes each window separately: normalisation over time, attention
    and positions are limited to one window.

    Attributes:
        model: Short name, Hugging Face id, or folder.
        weights: ``pretrained``, or ``random`` for the untrained architecture.
        revision: Branch, tag or commit on the Hugging Face hub.
        num_blocks: Number of transformer blocks that are kept, from the first one. The other blocks are removed: layer
            ``num_blocks`` is then the encoder's output, after the final LayerNorm if the model has one. None keeps all.
        layers: ``all``, ``local``, ``last``, or a list such as ``0,4-8,input``. Blocks above the highest layer are not
            computed. ``xvector`` is the utterance embedding of a speaker recognition model.
        do_normalize: Whether waveforms are normalised to mean 0 and variance 1; None follows the checkpoint.
        max_seconds: Used length from the beginning of each utterance, in seconds; None is the whole utterance.
        precision: Dtype of the computation. Statistics over time are always computed in float32. ``bfloat16`` halves
            the time on CPUs that support it; features differ by one or two percent of the largest value of a layer.
            ``float16`` is meant for GPUs. On CPUs it is slower than float32. Values above 65504 become infinite, and
            the utterance fails. The features of an utterance are the same alone and in any batch, within the tolerance
            :data:`~featcache.extractors.base.SAME_IN_ANY_BATCH` of the precision.
        keep_padding: Whether the frames of the padding are stored as well, for models that compute the same length for
            every signal. Fine-tuning Whisper needs them. The features of the signal are the same with and without.
    """

    model: str = setting(help="Short name (see 'featcache models'), Hugging Face id, or folder.")
    weights: Literal["pretrained", "random"] = setting(
        "pretrained", "Weights of the model; random is the untrained architecture, a control that needs no network."
    )
    revision: str | None = setting(None, "Branch, tag or commit on the Hugging Face hub [default: main].")
    num_blocks: int | None = setting(
        None, "Number of transformer blocks to keep, from the first one, such as 12 of 24 [default: all]."
    )
    layers: str = setting("all", "Layers to store: all, local (layer 0), last, a list such as 0,4-8,input, or xvector.")
    do_normalize: bool | None = setting(
        None, "Normalise waveforms to mean 0 and variance 1 [default: as the checkpoint specifies]."
    )
    max_seconds: float | None = setting(
        None, "Used length from the beginning of each utterance, in seconds [default: the whole utterance].", minimum=0
    )
    precision: Literal["float32", "bfloat16", "float16"] = setting(
        "float32", "Dtype of the computation; affects results, and bfloat16 is faster."
    )
    keep_padding: bool = setting(
        False,
        "Store also the frames of Whisper's padding to 30 s, which fine-tuning needs; all other frames are the same.",
    )


@dataclass(frozen=True, kw_only=True)
class TextConfig:
    """Options of text encoders.

    Attributes:
        model: Short name, Hugging Face id, or folder.
        weights: ``pretrained``, or ``random`` for the untrained architecture, which reads bytes as tokens.
        revision: Branch, tag or commit on the Hugging Face hub.
        layers: ``all``, ``local`` (layer 0), ``last``, or a list such as ``0,4-8``.
        precision: Dtype of the computation.
        transcripts: ``manifest``, or the name of ASR transcripts.
        transcripts_made_by: Settings of the ASR model, as JSON; empty for the transcripts in the manifest.
    """

    model: str = setting(help="Short name (see 'featcache models'), Hugging Face id, or folder.")
    weights: Literal["pretrained", "random"] = setting(
        "pretrained", "Weights of the model; random is the untrained architecture, a control that needs no network."
    )
    revision: str | None = setting(None, "Branch, tag or commit on the Hugging Face hub [default: main].")
    layers: str = setting("all", "Layers to store: all, local (layer 0), last, or a list such as 0,4-8.")
    precision: Literal["float32", "bfloat16", "float16"] = setting(
        "float32", "Dtype of the computation; affects results, and bfloat16 is faster."
    )
    transcripts: str = setting(
        MANIFEST, "Name of the ASR transcripts to read [default: the transcripts in the manifest]."
    )
    transcripts_made_by: str = setting("", "Settings of the ASR model that made the transcripts, as JSON.")
