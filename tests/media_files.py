"""Media files that PyAV writes, for tests of reading them."""

from fractions import Fraction

import av
import numpy as np

# Format of FFmpeg → codecs that keep 16-bit samples as they are.
LOSSLESS = {"mp4": "alac", "mov": "pcm_s16le", "matroska": "flac", "avi": "pcm_s16le"}


def write_media(path, samples, rate, codec="aac", *, form=None, video=False, streams=1):
    """Write audio streams and, if wanted, a video of one second.

    Args:
        path: File.
        samples: (num_channels, num_samples) int16.
        rate: Sampling rate in Hz.
        codec: Audio codec.
        form: Name of FFmpeg's format; by default the suffix names it.
        video: Whether to add a video.
        streams: Number of equal audio streams.
    """
    layout = "mono" if len(samples) == 1 else "stereo"
    with av.open(str(path), "w", format=form) as out:
        picture = out.add_stream("mpeg4", rate=10) if video else None
        if picture is not None:
            picture.width = picture.height = 32
            picture.pix_fmt = "yuv420p"
        sounds = [out.add_stream(codec, rate=rate, layout=layout) for _ in range(streams)]
        for number in range(10 if video else 0):
            image = av.VideoFrame.from_ndarray(np.full((32, 32, 3), 9 * number, np.uint8), format="rgb24")
            out.mux(picture.encode(image))
        if picture is not None:
            out.mux(picture.encode(None))
        for sound in sounds:
            frame = av.AudioFrame.from_ndarray(np.ascontiguousarray(samples), format="s16p", layout=layout)
            frame.sample_rate, frame.pts, frame.time_base = rate, 0, Fraction(1, rate)
            out.mux(sound.encode(frame))
            out.mux(sound.encode(None))
