"""``make bench``: prints the table. ``python -m tests.benchmarks --data FOLDER`` takes a corpus of your own."""

import argparse
import tempfile
from pathlib import Path

from featcache.corpora.synthetic import make_corpus
from tests.benchmarks import extraction, training
from tests.benchmarks.table import conditions, to_markdown

parser = argparse.ArgumentParser()
parser.add_argument("--data", type=Path, help="a corpus; by default 64 utterances of synthetic speech")
parser.add_argument("--model", default="wav2vec2-base", help="built untrained")
arguments = parser.parse_args()

with tempfile.TemporaryDirectory() as name:
    folder = Path(name)
    data = arguments.data
    if data is None:
        data = folder / "synthetic"
        make_corpus(data, repetitions=2)
    rows = [extraction.compare(arguments.model, data, folder)]
    cache = next((folder / "home" / "cache").iterdir())
    rows.append(training.compare(cache, arguments.model, folder))
print(to_markdown(rows))
print(f"\n{conditions()}; {arguments.model} untrained, {arguments.data.name if arguments.data else 'synthetic speech'}")
