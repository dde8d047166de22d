"""Work in a process of its own, so that its peak memory and its imports are its own.

    python benches/own_process.py import feastrs
    python benches/own_process.py materialize feastrs FOLDER START END

Prints what was measured as JSON.
"""

from __future__ import annotations

import contextlib
import io
import json
import resource
import subprocess
import sys
import time
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from testbed.repo import Repo

PLUGGED = "plugged-in.yaml"


def child(*arguments: str, script: str = __file__) -> dict[str, float]:
    """Runs `script` with `arguments` in a new process; its last line is the result."""
    done = subprocess.run(
        [sys.executable, "-W", "ignore", script, *arguments],
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode != 0:
        raise RuntimeError(f"{arguments}: {done.stderr[-2000:]}")
    result: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return result


def child_materialize(door: str, folder: str, start: str, end: str) -> dict[str, float]:
    store = open_store(door, folder)
    usage = resource.getrusage(resource.RUSAGE_SELF)
    started = time.perf_counter()
    with contextlib.redirect_stdout(io.StringIO()):
        store.materialize(datetime.fromisoformat(start), datetime.fromisoformat(end))
    seconds = time.perf_counter() - started
    after = resource.getrusage(resource.RUSAGE_SELF)
    return {
        "seconds": seconds,
        "cpu": after.ru_utime + after.ru_stime - usage.ru_utime - usage.ru_stime,
        "peak_mb": peak_bytes() / 1e6,
    }


def peak_bytes() -> int:
    """The most memory that this program has held. `ru_maxrss` would count its parent's too."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) * 1024
    raise RuntimeError("/proc/self/status has no VmHWM")


def child_import(module: str) -> dict[str, float]:
    cpu, wall = time.process_time(), time.perf_counter()
    __import__(module)
    return {"seconds": time.perf_counter() - wall, "cpu": time.process_time() - cpu}


def open_store(door: str, folder: str) -> Any:
    """`feast`, `feastrs`, or Feast with our plug-ins, which `plug_in` has written down."""
    if door == "feast":
        import feast

        return feast.FeatureStore(repo_path=folder)
    if door == "plugged":
        import feast

        file = Path(folder) / PLUGGED
        return feast.FeatureStore(repo_path=folder, fs_yaml_file=file)
    import feastrs

    return feastrs.FeatureStore(repo_path=folder)


def plug_in(repo: Repo) -> None:
    """Writes what an unchanged Feast needs to do its work by our plug-ins, into the repo's
    folder."""
    import yaml

    from testbed.repo import PLUG_INS

    online_store = repo.config["online_store"]
    online_store = online_store | {"type": PLUG_INS[online_store["type"]]}
    engine = {"type": "feastrs.feast.MaterializationEngine"}
    config = repo.config | {"online_store": online_store, "batch_engine": engine}
    (repo.folder / PLUGGED).write_text(yaml.safe_dump(config))


def main() -> int:
    what, *arguments = sys.argv[1:]
    print(json.dumps({"import": child_import, "materialize": child_materialize}[what](*arguments)))
    return 0


if __name__ == "__main__":
    sys.exit(main())
