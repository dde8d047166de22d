"""What the README says and something else must keep: names of tests, an example's text."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).resolve().parents[3]


def section(title: str) -> str:
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    return text.split(f"## {title}\n")[1].split("\n## ")[0]


def test_the_tests_that_the_readme_names_exist() -> None:
    shown_by = [
        line.split("|")[3]
        for line in section("Differences from Feast").splitlines()
        if line.count("|") == 4
    ]
    named = {name for cell in shown_by[2:] for name in re.findall(r"`(\w+)`", cell)}
    defined = {
        name
        for folder, pattern, definition in (
            ("tests/python", "test_*.py", r"def (test_\w+)"),
            ("tests/rust", "*.rs", r"fn (\w+)\(\)"),
            ("src", "*.rs", r"fn (\w+)\(\)"),
        )
        for file in (ROOT / folder).rglob(pattern)
        for name in re.findall(definition, file.read_text(encoding="utf-8"))
    }
    assert len(named) > 20
    assert named <= defined, sorted(named - defined)


def test_the_snippet_for_airflow_is_the_examples() -> None:
    [snippet] = re.findall(r"```python\n(.*?)```", section("In Airflow"), re.DOTALL)
    example = ROOT / "examples" / "airflow" / "materialize_driver_stats.py"
    assert snippet in example.read_text(encoding="utf-8")
