"""Ratios against plain loops as a table, with what they were measured on."""

import platform
import subprocess
from collections.abc import Iterable
from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Row:
    """One case.

    Attributes:
        ours: Seconds that featcache took.
        plain: Seconds that the plain loop took for the same.
        deviation: Largest difference of the two results over the largest value; None where they are not comparable.
    """

    case: str
    ours: float
    plain: float
    note: str = ""
    deviation: float | None = None


def to_markdown(rows: Iterable[Row]) -> str:
    lines = [
        "| case | featcache (s) | plain loop (s) | times as fast | deviation | |",
        "|---|---|---|---|---|---|",
    ]
    for row in rows:
        told = "-" if row.deviation is None else f"{row.deviation:.1e}"
        ratio = f"{row.plain / row.ours:.2f}"
        lines.append(f"| {row.case} | {row.ours:.2f} | {row.plain:.2f} | {ratio} | {told} | {row.note} |")
    return "\n".join(lines)


def conditions() -> str:
    """Machine, versions and commit."""
    import torch
    import transformers

    from featcache.threads import available_cores

    commit = subprocess.run(["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=False)
    return (
        f"{available_cores()} cores, {platform.machine()}, Python {platform.python_version()}, "
        f"torch {torch.__version__}, transformers {transformers.__version__}, "
        f"commit {commit.stdout.strip() or 'unknown'}"
    )
