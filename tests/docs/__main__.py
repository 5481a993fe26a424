"""Write the outputs on pages of the site again: ``python -m tests.docs tutorial.md notebook.ipynb``.

The notebook needs the extra ``docs``.
"""

import os
import re
import shutil
import sys
import tempfile
from pathlib import Path

from tests.docs.pages import DOCS, blocks_of, prepared_for, run_blocks, with_output
from tests.docs.prepared import prepare


def main():
    os.environ["COLUMNS"] = "80"
    os.environ.pop("FEATCACHE_HOME", None)
    for page in sys.argv[1:]:
        if page.endswith(".ipynb"):
            execute(DOCS / page)
            continue
        text = (DOCS / page).read_text(encoding="utf-8")
        with tempfile.TemporaryDirectory() as folder:
            os.chdir(folder)
            prepare(prepared_for(text))
            printed = [printed for _, printed in run_blocks(blocks_of(text), shorten=False)]
            for name in re.findall(r"\]\(([\w-]+\.png)\)", text):  # a figure that the page draws
                if Path(name).exists():
                    shutil.copy(name, DOCS)
            os.chdir(DOCS)
        (DOCS / page).write_text(with_output(text, printed), encoding="utf-8")


def execute(path):
    """Execute a notebook, and keep what its cells show; warnings depend on the machine."""
    import nbformat
    from nbclient import NotebookClient

    notebook = nbformat.read(path, as_version=4)
    NotebookClient(notebook, record_timing=False).execute()
    for cell in notebook.cells:
        if cell.cell_type == "code":
            cell.outputs = [output for output in cell.outputs if output.get("name") != "stderr"]
    notebook.metadata = {
        "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
        "language_info": {"name": "python"},
    }
    nbformat.write(notebook, path)


if __name__ == "__main__":
    main()
