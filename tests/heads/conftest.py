"""What the tests of this folder share."""

from tests.outside_heads import install, named  # noqa: F401
