"""A small external package with a head, an extractor, a corpus and a protocol; a test installs it."""
