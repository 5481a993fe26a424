"""Runs of a corpus → the table of the page over all of them."""

from collections.abc import Mapping, Sequence
from typing import Any

from featcache.evaluate.scores import MAIN_SCORES, SCORES, digits_of

# Settings that have a menu, but no column, because the title shows them.
_IN_TITLE = ("Features", "Head", "Normalisation")
_OTHERS = ("Protocol", "Target", "Layers", "Seeds")


def overview_table(entries: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Return the columns and rows of the table; columns without any value are left out.

    Args:
        entries: One per run: title, name, page, report, date, config, scores, always_wrong.

    Returns:
        ``columns``, ``rows``, and ``sort``: position of the column and direction. Runs are sorted by their validation
        score, because settings are chosen by it.
    """
    columns: list[dict[str, Any]] = [{"title": "Run", "kind": "run"}]
    cells: list[list[Any]] = [[[one["title"], one["name"], one["page"]] for one in entries]]
    sort = None
    for name in MAIN_SCORES:
        for part, title in (("validation", "Validation"), ("test", "Test")):
            found = [one["scores"].get(f"{part} {name}") for one in entries]
            if any(found):
                if sort is None and part == "validation":
                    sort = [len(columns), "descending"]
                columns.append(_number(f"{title} {SCORES[name].heading}", name))
                cells.append(found)
        bounds = [one["scores"].get("ci") if one["score"] == name else None for one in entries]
        if any(bounds):
            columns.append(_number("Test 95 % CI", name))
            cells.append(bounds)
    for title, found in (
        ("Test WA (%)", [one["scores"].get("test wa") for one in entries]),
        ("Always wrong", [one["always_wrong"] for one in entries]),
    ):
        if any(found):
            columns.append(_number(title, "wa"))
            cells.append(found)
    for title in (*_OTHERS, *_IN_TITLE):
        values = [one["config"][title] for one in entries]
        levels = sorted(set(values))
        columns.append({"title": title, "kind": "choice", "levels": levels, "hidden": title in _IN_TITLE})
        cells.append([levels.index(value) for value in values])
    columns.append({"title": "Finished", "kind": "text"})
    cells.append([one["date"] for one in entries])
    columns.append({"title": "Pages", "kind": "links"})
    cells.append([_pages(one) for one in entries])
    return {"columns": columns, "rows": [list(row) for row in zip(*cells, strict=True)], "sort": sort}


def _number(title: str, score: str) -> dict[str, Any]:
    return {"title": title, "kind": "number", "digits": digits_of(score)}


def _pages(entry: Mapping[str, Any]) -> list[list[str]]:
    found = [["utterances", f"{entry['page']}#utterances"]]
    return found + ([["report", entry["report"]]] if entry["report"] else [])
