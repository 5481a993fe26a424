"""Miniature corpora: the real names and label files, without sound."""

import pytest


@pytest.fixture
def write(tmp_path):
    """``write({path: text})`` below the test's folder; audio needs no content. Returns the folder."""

    def write_files(files, folder=tmp_path):
        for path, text in (files if isinstance(files, dict) else dict.fromkeys(files, "RIFF")).items():
            (folder / path).parent.mkdir(parents=True, exist_ok=True)
            (folder / path).write_text(text, encoding="utf-8")
        return folder

    return write_files
