"""Makes data/registry.db as `feast apply` does. Needs stock Feast.

Feast also notes the absolute path of the local online store there (`infra`). That note is
of one machine only, and Feast writes it anew at its next apply, so it is not kept.
"""

import subprocess
import sys
from pathlib import Path

from feast.protos.feast.core.Registry_pb2 import Registry

REPO = Path(__file__).parent
REGISTRY = REPO / "data" / "registry.db"


def main() -> None:
    REGISTRY.unlink(missing_ok=True)
    feast = Path(sys.executable).with_name("feast")
    subprocess.run([feast, "--chdir", REPO, "apply"], check=True)
    (REPO / "data" / "online.db").unlink(missing_ok=True)

    registry = Registry.FromString(REGISTRY.read_bytes())
    registry.ClearField("infra")
    REGISTRY.write_bytes(registry.SerializeToString())


if __name__ == "__main__":
    main()
