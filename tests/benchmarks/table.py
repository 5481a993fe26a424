"""A theme's measurements as a Markdown table, and what they were measured on."""

import platform
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, kw_only=True)
class Table:
    """One theme of the page.

    Attributes:
        title: Its heading.
        text: What was compared with what, in a sentence or two.
        columns: The heads of the columns.
        rows: As many cells each as there are columns; none where nothing could be measured.
    """

    title: str
    text: str
    columns: Sequence[str]
    rows: Sequence[Sequence[str]]

    def to_markdown(self) -> str:
        lines = [self.columns, ["---"] * len(self.columns), *self.rows] if self.rows else []
        return "\n".join(
            [f"## {self.title}", "", self.text, "", *(f"| {' | '.join(line)} |" for line in lines)]
        ).strip()


@dataclass(frozen=True, kw_only=True)
class Row:
    """One case of training.

    Attributes:
        ours: Seconds that featcache took.
        plain: Seconds that what it is compared with took.
    """

    case: str
    ours: float
    plain: float
    note: str = ""

    def cells(self) -> list[str]:
        return [self.case, f"{self.ours:.2f}", f"{self.plain:.2f}", f"{self.plain / self.ours:.2f}", self.note]


def promised(ratio: float, most: float) -> str:
    """What a ratio was promised to be, and whether it is."""
    return f"at most {most:.2f}: {'kept' if ratio <= most else 'missed'}"


def megabytes(size: float) -> str:
    return f"{size / 1e6:.0f} MB"


def conditions() -> str:
    """Machine, versions and commit."""
    import torch
    import transformers

    from featcache.threads import available_cores

    commit = subprocess.run(
        ["git", "describe", "--always", "--dirty", "--exclude=*"], capture_output=True, text=True, check=False
    )
    return (
        f"{_processor()}, {available_cores()} cores, {platform.system()}, Python {platform.python_version()}, "
        f"torch {torch.__version__}, transformers {transformers.__version__}, "
        f"commit {commit.stdout.strip() or 'unknown'}"
    )


def _processor() -> str:
    """Its name where the system tells it, and its architecture."""
    return " ".join(filter(None, [cpu_info().get("model name"), platform.machine()]))


def cpu_info(path: Path = Path("/proc/cpuinfo")) -> dict[str, str]:
    """What Linux knows of the first processor; empty elsewhere."""
    if not path.exists():
        return {}
    lines = path.read_text(encoding="utf-8").split("\n\n")[0].splitlines()
    return {name.strip(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
