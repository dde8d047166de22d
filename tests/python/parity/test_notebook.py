"""The notebook of the example runs from top to bottom, in a kernel of its own."""

from __future__ import annotations

from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

EXAMPLE = Path(__file__).parents[3] / "examples" / "driver_stats"


@pytest.mark.filterwarnings("ignore::DeprecationWarning:(jupyter_client|nbclient|zmq).*")
def test_the_notebook_on_training_data() -> None:
    notebook = nbformat.read(EXAMPLE / "training_data.ipynb", as_version=4)
    client = NotebookClient(
        notebook,
        timeout=120,
        kernel_name="python3",
        resources={"metadata": {"path": str(EXAMPLE)}},
    )
    client.execute()

    printed = "".join(
        output.get("text", "")
        for cell in notebook.cells
        for output in cell.get("outputs", ())
        if output.output_type == "stream"
    )
    assert "12,000 offers" in printed
    assert "what is served is what a model would be trained on" in printed
    shown = [
        output
        for cell in notebook.cells
        for output in cell.get("outputs", ())
        if "image/png" in output.get("data", {})
    ]
    assert len(shown) == 2
