"""A simulation that is killed goes on where it was."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

SUPPORT = Path(__file__).resolve().parents[1] / "support"
DRIVER = """
import json, os, signal, sys
import numpy as np
from pathlib import Path
from crash_driver import in_child
from emstore.simulators.stem import Stem, StemParams
from emstore.work import Bench

asked = StemParams(**json.loads(sys.argv[1]))

def simulate(name, kill=0):
    told = []
    def tell(share, what):
        told.append(share)
        if len(told) == kill:
            os.kill(os.getpid(), signal.SIGKILL)
    Path(name).mkdir(exist_ok=True)
    image, columns = Stem().simulate(asked, Bench(Path(name), tell, 1 << 30, 1))
    np.save(name, image.content.data[tuple(slice(0, n) for n in image.content.shape)])
    assert told == sorted(told) and abs(told[-1] - 1) < 1e-9, told
    return len(told)

kept = lambda: {path.name: path.stat().st_mtime_ns for path in Path("other").glob("scan-*.npy")}
whole = simulate("whole")
killed, _ = in_child(lambda: simulate("other", whole * 2 // 3))
before = kept()
status, again = in_child(lambda: simulate("other"))
print(json.dumps({"whole": whole, "killed": killed, "before": before, "status": status, "again": again, "after": kept()}))
"""
ASKED = {
    "material": "SrTiO3",
    "thickness": [6.0, 12.0],
    "energy_kev": 80.0,
    "convergence_mrad": 15.0,
    "detectors_mrad": [[30.0, 60.0]],
    "supercell": 8.0,
    "potential_sampling": 0.13,
    "slice_thickness": 3.0,
    "shape": [20, 20],
    "full": True,
    "phonons": 2,
    "seed": 5,
}


@pytest.mark.parametrize("how", [{"method": "multislice"}, {"method": "prism", "interpolation": 1}], ids=["multislice", "prism"])
def test_a_killed_simulation_goes_on_and_ends_with_the_same_image(tmp_path: Path, how: dict[str, object]) -> None:
    ran = subprocess.run(
        [sys.executable, "-c", DRIVER, json.dumps({**ASKED, **how})],
        capture_output=True,
        text=True,
        timeout=300,
        cwd=tmp_path,
        env={**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(SUPPORT)},
    )
    assert ran.returncode == 0, ran.stderr
    found = json.loads(ran.stdout)
    assert found["killed"] == -signal.SIGKILL
    assert found["before"], "nothing outlived the kill"
    assert found["status"] == 0, ran.stderr
    assert found["again"] < found["whole"]
    assert found["before"].items() <= found["after"].items()
    one, other = np.load(tmp_path / "whole.npy"), np.load(tmp_path / "other.npy")
    np.testing.assert_allclose(other, one, atol=1e-6 * one.max(), rtol=0)
    assert one.std() > 0.1 * one.max()
