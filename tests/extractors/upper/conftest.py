"""Fixtures: the whole model of transformers, and its upper blocks."""

import functools

import pytest

from featcache.extractors.upper import load_upper
from tests.extractors.upper.plain import CHANGES, LENGTHS, TEXT_CASES, Plain


@pytest.fixture(scope="session")
def plain(tiny_model, tiny_text_model, signal):
    """Return a function that gives the whole model of a case; equal calls return the same one."""

    @functools.cache
    def make(case):
        name, changes = CHANGES.get(case, (case, {}))
        text = case in TEXT_CASES
        folder = (tiny_text_model if text else tiny_model)(name, **changes)
        signals = () if text else [signal(length, seed) for seed, length in enumerate(LENGTHS)]
        return Plain(folder, text=text, signals=signals)

    return make


@pytest.fixture(scope="session")
def upper(plain):
    """Return a function that loads the upper blocks of a case; equal calls return the same ones."""

    @functools.cache
    def make(case, from_layer, **options):
        one = plain(case)
        options.setdefault("with_padding", case == "whisper")
        return load_upper(one.folder, text=one.text, from_layer=from_layer, **options)

    return make
