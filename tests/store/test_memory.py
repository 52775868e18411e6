"""Peak memory of a fresh process stays within the budget it was given, however large the data."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

CHILD = """
import json, sys
from pathlib import Path
import numpy as np
from dataclasses import dataclass
from memory_sink import MemorySink
from emstore.geometry import Axis, Grid
from emstore.header import Header
from emstore.store.plan import project
from emstore.store.writer import plan_version, write_version_data
from emstore.volume import Volume

noise = np.random.default_rng(0).integers(0, 65535, 1 << 22, dtype="uint16")

@dataclass
class Made:
    shape: tuple
    block: tuple
    dtype: np.dtype = np.dtype("uint16")
    def __getitem__(self, region):
        shape = [s.stop - s.start for s in region]
        out = np.empty(shape, self.dtype)
        for k in range(shape[0]):
            out[k] = noise[7919 * (region[0].start + k):][:out[k].size].reshape(shape[1:])
        return out

class Nowhere(MemorySink):
    last = None
    def put(self, key, data):
        self.sent = getattr(self, "sent", 0) + len(data)
        if not key.startswith(("s0/image", "s1/image", "s2/image")):
            super().put(key, data)

budget = int(sys.argv[1])
shape = (180, 1200, 1300)
each = Volume("v", Made(shape, (1, 1200, 1300)), Grid(tuple(Axis(n, s) for n, s in zip("zyx", shape))), Header("none"))
plan = plan_version(each, memory=budget << 20)
sink = Nowhere()
write_version_data(each, plan, sink)
# Not ru_maxrss: that survives exec, so it can be the parent's.
status = Path("/proc/self/status").read_text()
peak = int(next(line for line in status.splitlines() if line.startswith("VmHWM")).split()[1]) >> 10
print(json.dumps({"peak": peak, "projected": project(plan) >> 20, "sent": sink.sent, "bytes": each.nbytes}))
"""


@pytest.mark.parametrize("budget", [512, 900])
def test_peak_memory_keeps_the_budget(budget: int) -> None:
    support = Path(__file__).parent.parent / "support"
    command = [sys.executable, "-c", CHILD, str(budget)]
    done = subprocess.run(command, capture_output=True, text=True, cwd=support, timeout=120)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert found["sent"] > found["bytes"]  # noise does not compress, and there are levels on top
    assert found["peak"] <= budget
    assert found["projected"] <= budget
