"""Extraction in bfloat16: its time compared with the plain loop, and the error of each layer."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from tests.benchmarks.compare import deviations
from tests.benchmarks.extraction import Cached, Extraction, cached
from tests.benchmarks.process import alone
from tests.benchmarks.table import Table, cpu_info

TITLE = "Extraction with `--precision bfloat16`"


@dataclass(frozen=True, kw_only=True)
class Precision:
    """Seconds in bfloat16, in float32 and of the plain loop; relative errors of the layers."""

    bfloat16: float
    float32: float
    plain: float
    layer_names: Sequence[str]
    deviations: Sequence[float]

    def table(self) -> Table:
        return Table(
            title=TITLE,
            text=(
                f"{self.bfloat16:.1f} s, which is {self.bfloat16 / self.plain:.2f} x the time of the plain loop and "
                f"{self.bfloat16 / self.float32:.2f} x the time of featcache in float32. The relative error is the "
                "maximum absolute error of the features, compared with float32, divided by their largest absolute "
                "value, over all utterances."
            ),
            columns=("layer", *self.layer_names),
            rows=[["relative error", *(f"{value:.1e}" for value in self.deviations)]],
        )


@dataclass(frozen=True, kw_only=True)
class Skipped:
    """Reason why the benchmark was not run."""

    reason: str

    def table(self) -> Table:
        return Table(title=TITLE, text=self.reason, columns=(), rows=())


def computes_bfloat16(processor: dict[str, str]) -> bool | None:
    """Return whether a CPU has instructions for bfloat16, or None if this is unknown.

    Args:
        processor: Result of :func:`~tests.benchmarks.table.cpu_info`; only x86 lists its instructions under ``flags``.
    """
    if "flags" not in processor:
        return None
    return bool({"avx512_bf16", "amx_bf16"} & set(processor["flags"].split()))


def compare(model: str, data: Path, folder: Path, before: Extraction) -> Precision | Skipped:
    if computes_bfloat16(cpu_info()) is False:
        return Skipped(reason="Not measured: this CPU has neither AVX-512 BF16 nor AMX.")
    found: Cached
    found, _ = alone(cached, model, data, folder / "home-bfloat16", "bfloat16")
    reference = before.ours.features()
    return Precision(
        bfloat16=found.seconds,
        float32=before.ours.seconds,
        plain=before.plain.seconds,
        layer_names=reference.layer_names,
        deviations=deviations(reference, found.features()),
    )
