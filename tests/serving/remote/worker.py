"""A worker of another machine, for tests: `python -m tests.serving.remote.worker JSON`."""

from __future__ import annotations

import json
import sys
from pathlib import Path

from serving.processes import WorkerProgram
from serving.remote import joining
from serving.remote.address import Address, Tls


def main() -> None:
    asked = json.loads(sys.argv[1])
    joining.PATIENCE_S = asked["patience_s"]
    tls = Tls.read(*map(Path, asked["tls"]), "tls") if asked["tls"] else None
    program = WorkerProgram(asked["module"], asked["settings"])
    joining.join(Address("127.0.0.1", asked["port"]), tls, program, asked["required"], print)


if __name__ == "__main__":
    main()
