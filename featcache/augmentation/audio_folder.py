"""Folder of noise or impulse responses → its audio files, their lengths and a checksum of their content."""

from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

from featcache.audio.decoding import read_header
from featcache.corpora.folder_contents import AUDIO_SUFFIXES, files_below
from featcache.errors import AudioError, ModelError
from featcache.files.regular import sha256_of_file


@dataclass(frozen=True, kw_only=True)
class AudioFolder:
    """Audio files of a folder, sorted by their paths.

    Attributes:
        path: Absolute path of the folder.
        files: Path of each file, relative to the folder, and its duration in seconds.
        sha256: SHA-256 of the names and the content of all files.
    """

    path: str
    files: tuple[tuple[str, float], ...]
    sha256: str

    @classmethod
    def read(cls, text: str) -> "AudioFolder":
        """Find and check the files of a folder.

        Args:
            text: Path of the folder.

        Raises:
            ModelError: there is no such folder, it has no audio, or a file of it cannot be used.
        """
        folder = Path(text).absolute()
        if not folder.is_dir():
            raise ModelError(f"--augment: no folder {text!r}; expected a folder of audio files")
        names = files_below(folder, AUDIO_SUFFIXES)
        if not names:
            raise ModelError(f"--augment: {text} has no audio files, expected one of {', '.join(AUDIO_SUFFIXES)}")
        whole, files = sha256(), []
        for name in names:
            try:
                header = read_header(folder, name)
                whole.update(f"{name}\0{sha256_of_file(folder / name)}\n".encode())
            except (AudioError, OSError) as error:
                raise ModelError(f"--augment: {folder}: {error}; remove this file") from error
            if not header.num_samples:
                raise ModelError(f"--augment: {folder / name} has no samples; remove this file")
            files.append((name, header.duration))
        return cls(path=str(folder), files=tuple(files), sha256=whole.hexdigest())
