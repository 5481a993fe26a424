"""Short files, short functions, unique names; ``python -m tests.test_house`` prints the numbers."""

import ast
import io
import statistics
import tokenize
from collections import defaultdict
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
MEDIAN_LINES, MOST_LINES, MOST_CODE_LINES = 150, 400, 60
# Module names that several packages may use, because the folder makes their meaning clear.
OF_FOLDERS = {"__init__", "base", "folder", "identity", "inputs", "layers", "locate", "locks", "memory", "plan"} | {
    *("predictions", "reader", "request", "resolve", "run", "scores", "summary", "text", "writer"),
}


def modules(package):
    return sorted((ROOT / package).rglob("*.py"))


def line_counts(package):
    """Return path → number of lines."""
    return {path: len(path.read_text(encoding="utf-8").splitlines()) for path in modules(package)}


def functions(path):
    """Yield the name and the number of code lines of each function, without docstrings, comments and blank lines."""
    text = path.read_text(encoding="utf-8")
    silent = {tokenize.COMMENT, tokenize.NL, tokenize.NEWLINE, tokenize.INDENT, tokenize.DEDENT, tokenize.ENDMARKER}
    code = {
        line
        for token in tokenize.generate_tokens(io.StringIO(text).readline)
        if token.type not in silent
        for line in range(token.start[0], token.end[0] + 1)
    }
    tree = ast.parse(text)
    for node in ast.walk(tree):
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str):
            code -= set(range(node.lineno, node.end_lineno + 1))
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            first = node.body[0].lineno if repeats_options(node) else node.lineno
            yield node.name, len(code & set(range(first, node.end_lineno + 1)))


def repeats_options(function):
    """Return whether the signature of a public function repeats all options of a command, one per line."""
    return any(
        isinstance(one, ast.Call) and isinstance(one.func, ast.Name) and one.func.id == "documented"
        for one in function.decorator_list
    )


def longest_functions(package):
    """Return (lines of code, module, name) of all functions, longest first."""
    found = [(lines, path.relative_to(ROOT), name) for path in modules(package) for name, lines in functions(path)]
    return sorted(found, reverse=True)


def shared_names(names):
    """Return name → places, for names that occur in several places."""
    places = defaultdict(list)
    for name, place in names:
        places[name].append(str(place))
    return {name: found for name, found in places.items() if len(found) > 1}


def defined_classes():
    for path in modules("featcache"):
        for node in ast.parse(path.read_text(encoding="utf-8")).body:
            if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
                yield node.name, path.relative_to(ROOT)


@pytest.mark.parametrize("package", ["featcache", "tests"])
def test_files_are_short(package):
    lines = line_counts(package)
    assert statistics.median(lines.values()) <= MEDIAN_LINES or package == "tests"
    assert {str(path): count for path, count in lines.items() if count > MOST_LINES} == {}


@pytest.mark.parametrize("package", ["featcache", "tests"])
def test_functions_are_short(package):
    assert [found for found in longest_functions(package) if found[0] > MOST_CODE_LINES] == []


def test_modules_have_names_of_their_own():
    found = [path for path in modules("featcache") if path.stem not in OF_FOLDERS and path.parent.name != "commands"]
    names = [(path.stem, path.relative_to(ROOT)) for path in found]
    assert shared_names(names) == {}


def test_classes_have_names_of_their_own():
    assert shared_names(defined_classes()) == {}


def test_each_module_says_what_it_is():
    assert [path for path in modules("featcache") if not ast.get_docstring(ast.parse(path.read_text("utf-8")))] == []


if __name__ == "__main__":
    for name in ("featcache", "tests"):
        counted = line_counts(name)
        print(f"{name}: {len(counted)} files, median {statistics.median(counted.values()):g} lines")
        print(f"  longest file: {max(counted.values())} lines")
        lines_of_code, module, function = longest_functions(name)[0]
        print(f"  longest function: {lines_of_code} lines of code ({function} in {module})")
