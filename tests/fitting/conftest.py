"""Fixtures of this folder."""

from tests.outside_heads import install, named  # noqa: F401
