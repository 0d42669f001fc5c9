"""Start a worker in two processes, as `torchrun --nproc-per-node 2` does."""

import json
import os
import subprocess
import sys
from pathlib import Path

WORLD = 2


def launch(worker, folder):
    """Run a worker that writes a report per rank into a folder; return the reports."""
    launcher = ("-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(WORLD))
    done = subprocess.run(
        [sys.executable, *launcher, str(Path(__file__).parent / worker), str(folder)],
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-8000:]
    return [json.loads((folder / f"{rank}.json").read_text()) for rank in range(WORLD)]
