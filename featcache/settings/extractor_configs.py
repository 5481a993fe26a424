"""What each built-in extractor can be told: the fields are its options, its part of a YAML store, and its identity.

Nothing heavy is imported here, so that the command line can show these options before any model is loaded.
"""

from dataclasses import dataclass
from typing import Any, Literal

from featcache.errors import ModelError
from featcache.settings.field import setting, settings_of

ChannelPolicy = Literal["mean", "first"]
CHUNK_OPTIONS = ("chunk_seconds", "overlap_seconds")
OVERLAP_SECONDS = 2.0
MANIFEST = "manifest"
"""What the settings of a store call the transcripts in the manifest."""


@dataclass(frozen=True, kw_only=True)
class Chunks:
    """How an utterance is computed that is too long to be computed whole.

    Attributes:
        seconds: Whatever is longer is computed in windows of this length.
        overlap: What neighbouring windows have in common, in seconds, at least.
    """

    seconds: float
    overlap: float

    def settings(self) -> dict[str, float]:
        """Return the two as they stand among a store's settings."""
        return dict(zip(CHUNK_OPTIONS, (self.seconds, self.overlap), strict=True))


@dataclass(frozen=True, kw_only=True)
class ChunkConfig:
    """Options of every extractor: how it computes long utterances.

    Attributes:
        chunk_seconds: Longer utterances are computed in windows of this length; None computes all of them whole.
        overlap_seconds: Overlap of neighbouring windows; None is two seconds.
    """

    chunk_seconds: float | None = setting(
        None,
        "Length of the windows in which longer utterances are computed, in seconds. Bounds memory and changes numbers. "
        "By default every utterance is computed whole.",
        minimum=0,
    )
    overlap_seconds: float | None = setting(
        None, "Overlap of neighbouring windows, in seconds [default: 2].", minimum=0
    )

    def chunks(self) -> Chunks | None:
        """Return the length and the overlap of windows; None if every utterance is computed whole.

        Raises:
            ModelError: an overlap of no windows, or one that is not shorter than they are.
        """
        if self.chunk_seconds is None:
            if self.overlap_seconds is not None:
                raise ModelError("--overlap-seconds is that of windows; give their length with --chunk-seconds")
            return None
        overlap = OVERLAP_SECONDS if self.overlap_seconds is None else self.overlap_seconds
        if not 0 <= overlap < self.chunk_seconds:
            raise ModelError(
                f"--overlap-seconds is {overlap:g}, expected less than the {self.chunk_seconds:g} of --chunk-seconds"
            )
        return Chunks(seconds=float(self.chunk_seconds), overlap=float(overlap))

    def settings(self) -> dict[str, Any]:
        """Return the configuration as it stands among a store's settings; without windows nothing is said of them."""
        chunks = self.chunks()
        plain = {name: getattr(self, name) for name, (_, about) in settings_of(type(self)).items() if about.identity}
        plain = {name: value for name, value in plain.items() if name not in CHUNK_OPTIONS}
        return {**plain, **(chunks.settings() if chunks else {})}


@dataclass(frozen=True, kw_only=True)
class AudioConfig(ChunkConfig):
    """Options of extractors that read audio as descriptors do: which signal they see.

    Attributes:
        sampling_rate: In Hz to resample to first; None keeps the file's own.
        channel: ``mean`` of the channels, or the ``first`` one.
        max_seconds: How much of each utterance is used, from its beginning; None is all.
    """

    sampling_rate: int | None = setting(
        None,
        "Sampling rate to which signals are resampled first, in Hz; 0 keeps each file's own.",
        minimum=0,
    )
    channel: Literal["mean", "first"] = setting("mean", "Which channel is used: the mean of all, or the first.")
    max_seconds: float | None = setting(
        None, "Length that is used of each utterance, from its beginning, in seconds [default: all].", minimum=0
    )


@dataclass(frozen=True, kw_only=True)
class EgemapsConfig(AudioConfig):
    """Which eGeMAPS features, of which signal.

    The file's own sampling rate is Pepino's choice; Pepino used the ``first`` channel.

    In windows (``chunk_seconds``, of descriptors alone) all but jitter and shimmer are those of the whole signal, as
    long as windows overlap by two seconds. openSMILE follows the periods of a voice from where it sets in: jitter and
    shimmer are those of the whole, too, where the voice pauses between a window's beginning and the first frame that is
    taken from it. On 577 s of RAVDESS and EmoDB strung together, in windows of 10 s, no value differed; in a minute of
    voice without a pause jitter was off by 0.5 and shimmer by 0.2 standard deviations (root mean square).

    Attributes:
        level: ``lld``, 25 low-level descriptors every 10 ms, or ``functionals``, 88 values per utterance.
    """

    level: Literal["lld", "functionals"] = setting(
        "lld", "Low-level descriptors of every frame (lld), or functionals of the whole utterance."
    )


@dataclass(frozen=True, kw_only=True)
class OpensmileConfig(AudioConfig):
    """Which feature set of openSMILE, at which level, of which signal.

    Attributes:
        feature_set: Name of a set of the opensmile package, such as ``GeMAPSv01b``, or a configuration file
            (``*.conf``). It follows the colon in ``--model opensmile:GeMAPSv01b``.
        level: ``lld``, low-level descriptors; ``lld_de``, their deltas; ``functionals``, one vector per utterance. A
            configuration file may have other levels.
    """

    feature_set: str = setting(help="Feature set of openSMILE, such as GeMAPSv01b, or a configuration file.")
    level: str = setting(
        "lld", "Low-level descriptors (lld), their deltas (lld_de), or functionals of the whole utterance."
    )


@dataclass(frozen=True, kw_only=True)
class SpectrogramConfig(AudioConfig):
    """A linear magnitude spectrogram.

    The defaults are what Pepino et al. 2021 describe; what they ran on RAVDESS is ``window="400samples"``,
    ``hop="320samples"``, ``sampling_rate=None``, ``n_fft=512``.

    Attributes:
        window: Length of the Hann window, as ``25ms`` or ``400samples``.
        hop: Distance of the frames, likewise.
        n_fft: Length of the Fourier transform; None is the next power of two from the window on.
        center: Whether frame t is centred at t hops, the signal being padded with zeros, or begins there.
    """

    sampling_rate: int | None = setting(
        16000,
        "Sampling rate to which signals are resampled first, in Hz; 0 keeps each file's own.",
        minimum=0,
    )
    window: str = setting("25ms", "Length of the Hann window, such as 25ms or 400samples.")
    hop: str = setting("10ms", "Distance of neighbouring frames, such as 10ms or 320samples.")
    n_fft: int | None = setting(
        None,
        "Length of the Fourier transform, in samples [default: the next power of two from the window on].",
        minimum=2,
    )
    center: bool = setting(True, "Whether frame t is centred at t hops, with zeros around the signal, or begins there.")


@dataclass(frozen=True, kw_only=True)
class LogMelConfig(SpectrogramConfig):
    """A log-mel spectrogram: the decimal logarithm of the power in mel bands, as librosa's ``melspectrogram`` has it.

    Attributes:
        n_mels: Number of mel bands.
        fmin: Lower edge of the lowest band, in Hz.
        fmax: Upper edge of the highest band, in Hz; None is half the sampling rate.
        htk: Whether the mel scale is HTK's, and not Slaney's.
        floor: Power below this counts as this, so that the logarithm of silence is finite.
    """

    n_mels: int = setting(80, "Number of mel bands.", minimum=1)
    fmin: float = setting(0.0, "Lower edge of the lowest mel band, in Hz.", minimum=0)
    fmax: float | None = setting(
        None, "Upper edge of the highest mel band, in Hz [default: half the sampling rate].", above=0
    )
    htk: bool = setting(False, "Whether the mel scale is HTK's, and not Slaney's.")
    floor: float = setting(1e-10, "Power below this counts as this, before the logarithm.", above=0)


@dataclass(frozen=True, kw_only=True)
class SSLConfig(ChunkConfig):
    """Which speech model, and which of its layers.

    In windows (``chunk_seconds``) a model sees each window by itself: whatever it normalises over time, attends to or
    counts positions of lies in that window.

    Attributes:
        model: Short name, Hugging Face id, or folder.
        weights: ``pretrained``, or ``random`` for the untrained architecture.
        revision: Branch, tag or commit on the Hugging Face hub.
        num_blocks: Only so many transformer blocks, the first, as if the model had no others: layer ``num_blocks`` is
            the encoder's output, after its final LayerNorm where it has one. None is all.
        layers: ``all``, ``local``, ``last``, or a list such as ``0,4-8,input``. Blocks above the highest are not run.
        do_normalize: Whether waveforms are brought to mean 0 and variance 1; None does as the checkpoint says.
        max_seconds: How much of each utterance is used, from its beginning; None is all.
        precision: What the model computes in, statistics over time excepted, which are always float32. ``bfloat16``
            takes half the time on CPUs that have it, for features that are off by one or two percent of a layer's
            largest value. ``float16`` is meant for GPUs; CPUs compute it, but slower than float32, and values above
            65504 become infinite, which fails the utterance. An utterance has the same features alone and in any batch
            within :data:`~featcache.extractors.base.SAME_IN_ANY_BATCH` of the precision.
    """

    model: str = setting(help="Short name (see 'featcache models'), Hugging Face id, or folder.")
    weights: Literal["pretrained", "random"] = setting(
        "pretrained", "Weights of the model; random gives the untrained architecture, a control that works offline."
    )
    revision: str | None = setting(None, "Branch, tag or commit on the Hugging Face hub.")
    num_blocks: int | None = setting(
        None, "Number of transformer blocks that are kept, from the first on, such as 12 of a large model's 24."
    )
    layers: str = setting("all", "Layers that are kept: all, local, last, or a list such as 0,4-8,input.")
    do_normalize: bool | None = setting(
        None, "Whether waveforms are normalised to mean 0 and variance 1 [default: as the checkpoint says]."
    )
    max_seconds: float | None = setting(
        None, "Length that is used of each utterance, from its beginning, in seconds [default: all].", minimum=0
    )
    precision: Literal["float32", "bfloat16", "float16"] = setting(
        "float32", "Dtype in which the model computes; bfloat16 is faster. Changes numbers."
    )


@dataclass(frozen=True, kw_only=True)
class TextConfig:
    """Which text encoder, which of its layers, and whose transcripts.

    Attributes:
        model: Short name, Hugging Face id, or folder.
        weights: ``pretrained``, or ``random`` for the untrained architecture, whose tokens are bytes.
        revision: Branch, tag or commit on the Hugging Face hub.
        layers: ``all``, ``local`` (layer 0), ``last``, or a list such as ``0,4-8``.
        precision: What the model computes in.
        transcripts: ``manifest``, or the name of ASR transcripts.
        transcripts_made_by: The settings of that ASR model, as JSON; empty for the manifest's.
    """

    model: str = setting(help="Short name (see 'featcache models'), Hugging Face id, or folder.")
    weights: Literal["pretrained", "random"] = setting(
        "pretrained", "Weights of the model; random gives the untrained architecture, a control that works offline."
    )
    revision: str | None = setting(None, "Branch, tag or commit on the Hugging Face hub.")
    layers: str = setting("all", "Layers that are kept: all, local, last, or a list such as 0,4-8.")
    precision: Literal["float32", "bfloat16", "float16"] = setting(
        "float32", "Dtype in which the model computes; bfloat16 is faster. Changes numbers."
    )
    transcripts: str = setting(MANIFEST, "Name of the ASR transcripts that are read [default: the manifest's].")
    transcripts_made_by: str = setting("", "Settings of the model that made the transcripts, as JSON.")
