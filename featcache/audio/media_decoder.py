"""Audio or video file that libsndfile does not read → samples of its only audio stream, decoded by FFmpeg (PyAV).

Lengths are counted by decoding, because headers are often wrong. The samples are those that
``ffmpeg -i FILE out.wav`` writes: encoder delay that the file states is removed, and gaps are not filled.
"""

import io
import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, BinaryIO

import numpy as np
import numpy.typing as npt

from featcache.audio.containers import ContainerError, check_rate
from featcache.audio.header import Header
from featcache.files.content import HEAD_BYTES, describe_content

# Decoders that may run. Video is never decoded, not even to find out what a file contains.
_DECODERS = frozenset(
    (
        *("aac", "ac3", "alac", "amrnb", "amrwb", "eac3", "flac", "mp2float", "mp3", "mp3float", "nellymoser", "opus"),
        *("libopus", "speex", "vorbis", "wmalossless", "wmapro", "wmav1", "wmav2", "adpcm_ima_qt", "adpcm_ima_wav"),
        *("adpcm_ms", "adpcm_swf", "pcm_alaw", "pcm_mulaw", "pcm_s8", "pcm_u8", "pcm_s16be", "pcm_s16le", "pcm_s24be"),
        *("pcm_s24le", "pcm_s32be", "pcm_s32le", "pcm_f32be", "pcm_f32le", "pcm_f64be", "pcm_f64le"),
    )
)
# Factors from integer samples to [-1, 1], as in libsndfile.
_FULL_SCALE = {"u8": 2.0**7, "s16": 2.0**15, "s32": 2.0**31, "s64": 2.0**63}
# A few bytes can state hours of silence. No codec for speech needs fewer bytes than this for so many samples.
_MOST_SAMPLES, _FREE_SAMPLES, _SAMPLES_PER_BYTE = 2**33, 2**26, 2**14
# Formats whose header states the length of the audio. It is less exact than the decoded length.
_STATES_LENGTH = ("mov", "matroska")
_SECONDS_LESS, _SHARE_LESS = 1.0, 0.02


class MediaDecoder:
    """Audio stream of an open media file, with its position and its ``header``."""

    def __init__(self, blocks: Iterator[npt.NDArray[np.float32]], header: Header) -> None:
        self._blocks = blocks
        self._rest = np.empty((0, header.num_channels), dtype=np.float32)
        self._at = 0
        self.header = header

    def seek(self, sample: int) -> None:
        """Move forward to a sample; those before it are decoded and dropped, because seeking is not exact.

        Args:
            sample: Number of the sample, not before the current position.
        """
        while self._at < sample and (len(self._rest) or self._more()):
            dropped = min(len(self._rest), sample - self._at)
            self._rest = self._rest[dropped:]
            self._at += dropped

    def read(self, num_samples: int) -> npt.NDArray[np.float32]:
        """Decode the next samples.

        Args:
            num_samples: Number of samples per channel.

        Returns:
            Samples, (num_samples, num_channels) float32; fewer if decoding ends before.

        Raises:
            MemoryError: the samples do not fit in memory.
        """
        samples = np.empty((num_samples, self.header.num_channels), dtype=np.float32)
        filled = 0
        while filled < num_samples and (len(self._rest) or self._more()):
            piece = self._rest[: num_samples - filled]
            samples[filled : filled + len(piece)] = piece
            self._rest = self._rest[len(piece) :]
            filled += len(piece)
        self._at += filled
        return samples[:filled]

    def _more(self) -> bool:
        """Decode the next block; return whether there is one."""
        self._rest = next(self._blocks, self._rest)
        return len(self._rest) > 0


@contextmanager
def opened_media(content: BinaryIO, demuxer: str, header: Header | None) -> Iterator[MediaDecoder]:
    """Open the audio stream of a media file and yield its decoder.

    Args:
        content: File, open for reading.
        demuxer: Name of FFmpeg's demuxer.
        header: Result of counting the samples before; None decodes the file to count them.

    Raises:
        ContainerError: PyAV is not installed; the file has no audio stream or several, is damaged, or contains more
            audio than its size explains; also while it is being decoded.
    """
    if header is None:
        header = _counted(content, demuxer)
    with _stream(content, demuxer) as stream:
        yield MediaDecoder((block for block, _ in stream.blocks()), header)


def _counted(content: BinaryIO, demuxer: str) -> Header:
    """Decode a file and return its header."""
    num_samples, rate, num_channels = 0, 0, 0
    with _stream(content, demuxer) as stream:
        most = min(_MOST_SAMPLES, _FREE_SAMPLES + _SAMPLES_PER_BYTE * stream.num_bytes)
        for block, rate in stream.blocks():  # noqa: B007, the last rate is that of all
            num_samples += len(block)
            num_channels = block.shape[1]
            if num_samples * num_channels > most:
                raise ContainerError(
                    f"its {stream.num_bytes} bytes decode to more than {most} samples; divide the file"
                )
        if num_samples:
            check_rate(rate)
        announced = stream.seconds
        if rate and announced is not None:
            decoded = num_samples / rate
            if decoded + _SECONDS_LESS + _SHARE_LESS * announced < announced:
                found = f"{announced:.2f} s announced, {decoded:.2f} s decoded"
                raise ContainerError(f"cut off, or with gaps in its times: {found}; get it again, or convert it to WAV")
        return Header(
            num_samples=num_samples,
            sampling_rate=rate or 1,
            num_channels=num_channels,
            ends_early=stream.ends_early,
            decoder=_version(),
        )


class _Limited:
    """File for FFmpeg that ends after far more calls than decoding needs, so that no damage makes FFmpeg loop."""

    def __init__(self, file: BinaryIO, num_bytes: int) -> None:
        self._file = file
        self._calls_left = 10_000 + num_bytes // 16
        self._file.seek(0)

    def read(self, number: int) -> bytes:
        self._calls_left -= 1
        return self._file.read(number) if self._calls_left > 0 else b""

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        self._calls_left -= 1
        return self._file.seek(offset, whence)

    def tell(self) -> int:
        return self._file.tell()


class _Stream:
    """Audio stream of an open container.

    Attributes:
        num_bytes: Size of the file.
        ends_early: Whether the last packet is cut or could not be decoded; known at the end.
    """

    def __init__(self, container: Any, demuxer: str, num_bytes: int) -> None:
        audio = container.streams.audio
        if len(audio) != 1:
            raise ContainerError(
                "contains no audio stream"
                if not audio
                else f"contains {len(audio)} audio streams; write the one that you want to a file of its own, for "
                "example with 'ffmpeg -i FILE -map 0:a:0 FILE.wav'"
            )
        self._container, (self._audio,) = container, audio
        codec = self._audio.codec_context
        name = "unknown" if codec is None else codec.name
        if name not in _DECODERS:
            raise ContainerError(f"its audio codec ({name}) is not decoded here; convert the file to WAV with ffmpeg")
        self.num_bytes = num_bytes
        self.ends_early = False
        self.seconds = _stated_seconds(container, self._audio) if demuxer in _STATES_LENGTH else None

    def blocks(self) -> Iterator[tuple[npt.NDArray[np.float32], int]]:
        """Yield blocks of samples, (num_samples, num_channels) float32, and their sampling rate in Hz."""
        import av

        form: tuple[int, int] | None = None
        failed, partial = "", False
        decoded = 0
        for packet in self._container.demux(self._audio):
            if failed and packet.size:
                raise ContainerError(f"damaged, decoding failed after {decoded} samples ({failed})")
            partial = packet.is_corrupt if packet.size else partial
            try:
                frames = packet.decode()
            except av.error.FFmpegError as error:
                frames, failed = [], str(error.strerror)
            for frame in frames:
                block = _samples(frame)
                if form not in (None, (frame.sample_rate, block.shape[1])):
                    raise ContainerError(
                        f"its sampling rate or number of channels changes after {decoded} samples; convert it to WAV"
                    )
                form = frame.sample_rate, block.shape[1]
                decoded += len(block)
                if len(block):
                    yield block, frame.sample_rate
        self.ends_early = partial or bool(failed)


@contextmanager
def _stream(content: BinaryIO, demuxer: str) -> Iterator[_Stream]:
    try:
        import av
    except ImportError:
        content.seek(0)
        kind = (describe_content(content.read(HEAD_BYTES)) or "media").partition(";")[0]
        raise ContainerError(
            f"{kind}, which needs PyAV: pip install 'featcache[media]'; or convert it to WAV with ffmpeg"
        ) from None
    num_bytes = content.seek(0, io.SEEK_END)
    options = {"codec_whitelist": ",".join(_DECODERS)}
    try:
        with av.open(
            _Limited(content, num_bytes), format=demuxer, container_options=options, metadata_errors="replace"
        ) as container:
            yield _Stream(container, demuxer, num_bytes)
    except av.error.FFmpegError as error:
        raise ContainerError(f"damaged or cut off, FFmpeg cannot read it ({error.strerror})") from error


def _stated_seconds(container: Any, audio: Any) -> float | None:
    """Return the duration of the audio that the header states; None if it is unknown or may be that of a video."""
    if audio.duration is not None and audio.time_base is not None:
        return float(audio.duration * audio.time_base)
    if len(container.streams) > 1 or container.duration is None:
        return None
    # Matroska states the time of the end, and a part of a longer recording may begin with its time in it.
    return float((container.duration - max(container.start_time or 0, 0)) / 1e6)


def _samples(frame: Any) -> npt.NDArray[np.float32]:
    """Return the samples of a frame, (num_samples, num_channels) float32."""
    samples = frame.to_ndarray()
    if frame.format.is_packed:
        samples = samples.reshape(-1, frame.layout.nb_channels).T
    name = frame.format.packed.name
    if name == "u8":
        samples = samples.astype(np.float32) - _FULL_SCALE[name]
    scale = _FULL_SCALE.get(name, 1.0)
    # Integers of 32 bits are rounded once, as in libsndfile.
    scaled: npt.NDArray[np.float32] = (samples * (1 / scale)).astype(np.float32).T
    return scaled


def _version() -> str:
    import av

    return f"FFmpeg {av.ffmpeg_version_info} (PyAV {av.__version__})"
