"""Runs a notebook as JupyterLab would and prints each cell with its output. Exit code 1 if a cell fails."""

import re
import sys
from pathlib import Path

import nbformat
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError

ANSI = re.compile(r"\x1b\[[0-9;]*m")


def show(number, cell):
    print(f"\n[{number}] " + cell.source.replace("\n", "\n    "), flush=True)
    for output in cell.get("outputs", []):
        if output.output_type == "stream":
            mark = "  ! " if output.name == "stderr" else "  | "
            text = output.text
        elif output.output_type == "error":
            mark, text = "  x ", "\n".join(output.traceback) or output.evalue
        else:
            mark, text = "  > ", output.data.get("text/plain") or output.data.get("text/html", "")
        for line in ANSI.sub("", text).splitlines():
            print(mark + line, flush=True)


path = Path(sys.argv[1])
notebook = nbformat.read(path, as_version=4)
client = NotebookClient(
    notebook, timeout=120, kernel_name="python3", resources={"metadata": {"path": str(path.parent)}}
)
failed = None
number = 0
with client.setup_kernel():
    for index, cell in enumerate(notebook.cells):
        if cell.cell_type != "code":
            print("\n" + cell.source, flush=True)
            continue
        number += 1
        try:
            client.execute_cell(cell, index)
        except CellExecutionError as error:
            failed = error
        show(number, cell)
        if failed:
            break
sys.exit(1 if failed else 0)
