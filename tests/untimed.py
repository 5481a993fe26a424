"""Bytes of a run without its times, the only allowed difference between two fits of the same run."""

import hashlib
import json
import re

from featcache.files.checksums import CHECKSUMS
from featcache.runs.costs import TIMES
from featcache.runs.file_names import METRICS

REPORT = "report.html"


def bytes_without_times(path):
    """Return the bytes of a file of a run; times are removed from the metrics, the report and the checksums."""
    content = path.read_bytes()
    if path.name == METRICS:
        return json.dumps({name: value for name, value in json.loads(content).items() if name not in TIMES}).encode()
    if path.name == REPORT:
        return re.sub(rb'<tr class="time">.*?</tr>', b"", content, flags=re.DOTALL)
    if path.name == CHECKSUMS:
        with_times = hashlib.sha256((path.parent / METRICS).read_bytes()).hexdigest().encode()
        without = hashlib.sha256(bytes_without_times(path.parent / METRICS)).hexdigest().encode()
        assert with_times in content
        return content.replace(with_times, without)
    return content
