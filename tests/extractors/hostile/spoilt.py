"""Helpers to damage model folders and to check the messages."""

import json

import pytest

from featcache.errors import ModelError
from featcache.extractors import create_extractor

LFS = b"version https://git-lfs.github.com/spec/v1\noid sha256:" + b"0" * 64 + b"\nsize 378000000\n"


HTML = b"<!DOCTYPE html>\n<html><head><title>404</title></head><body>Not found</body></html>\n"


DEEP = b'{"a":' * 100_000 + b"1" + b"}" * 100_000


def edit(folder, name="config.json", **changes):
    path = folder / name
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


def refused(model, message="", *, text=False, **options):
    with pytest.raises(ModelError, match=message) as caught:
        create_extractor(str(model), text=text, **options)
    assert "\n" not in str(caught.value)
    assert "featcache-model-" not in str(caught.value)  # Messages never contain the temporary folder.


def one_line_or_fine(use):
    """Check that a call works or is refused in one line; any other exception fails the test."""
    try:
        use()
    except ModelError as error:
        told = str(error)
    else:
        told = ""
    assert "\n" not in told
