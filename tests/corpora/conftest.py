"""Fixtures for miniature corpora with real names and label files, but without sound."""

import pytest


@pytest.fixture
def write(tmp_path):
    """Return a function that writes ``{path: text}`` to the test's folder, and returns the folder.

    A list of paths is enough for audio files, whose content does not matter.
    """

    def write_files(files, folder=tmp_path):
        for path, text in (files if isinstance(files, dict) else dict.fromkeys(files, "RIFF")).items():
            (folder / path).parent.mkdir(parents=True, exist_ok=True)
            (folder / path).write_text(text, encoding="utf-8")
        return folder

    return write_files
