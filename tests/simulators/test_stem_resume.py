"""A simulation that is killed goes on where it was."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

DRIVER = """
import json, os, signal, sys
import numpy as np
from pathlib import Path
from emstore.simulators.stem import Stem, StemParams
from emstore.work import Bench

folder, out, kill, asked = Path(sys.argv[1]), sys.argv[2], int(sys.argv[3]), json.loads(sys.argv[4])
told = []
def tell(share, what):
    told.append(share)
    if len(told) == kill:
        os.kill(os.getpid(), signal.SIGKILL)
folder.mkdir(exist_ok=True)
image, columns = Stem().simulate(StemParams(**asked), Bench(folder, tell, 1 << 30, 1))
volume = image.content
np.save(out, volume.data[tuple(slice(0, n) for n in volume.shape)])
assert told == sorted(told) and told[-1] == 1.0 or abs(told[-1] - 1) < 1e-9, told
print(len(told), told[0])
"""
ASKED = {
    "material": "SrTiO3",
    "thickness": [6.0, 12.0],
    "energy_kev": 200.0,
    "detectors_mrad": [[30.0, 60.0]],
    "supercell": 8.0,
    "potential_sampling": 0.13,
    "slice_thickness": 3.0,
    "shape": [20, 20],
    "full": True,
    "phonons": 2,
    "seed": 5,
}


def run(folder: Path, out: Path, kill: int, asked: dict[str, object]) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-c", DRIVER, str(folder), str(out), str(kill), json.dumps(asked)]
    return subprocess.run(command, capture_output=True, text=True, timeout=300, env=environment)


@pytest.mark.parametrize("how", [{"method": "multislice"}, {"method": "prism", "interpolation": 1}])
def test_a_killed_simulation_goes_on_and_ends_with_the_same_image(tmp_path: Path, how: dict[str, object]) -> None:
    asked = {**ASKED, **how}
    whole = run(tmp_path / "a", tmp_path / "whole.npy", 0, asked)
    assert whole.returncode == 0, whole.stderr
    steps = int(whole.stdout.split()[0])
    killed = run(tmp_path / "b", tmp_path / "other.npy", steps * 2 // 3, asked)
    assert killed.returncode == -signal.SIGKILL
    kept = {path.name: path.stat().st_mtime_ns for path in (tmp_path / "b").glob("scan-*.npy")}
    assert kept, "nothing outlived the kill"
    again = run(tmp_path / "b", tmp_path / "other.npy", 0, asked)
    assert again.returncode == 0, again.stderr
    assert int(again.stdout.split()[0]) < steps
    assert kept.items() <= {path.name: path.stat().st_mtime_ns for path in (tmp_path / "b").glob("scan-*.npy")}.items()
    one, other = np.load(tmp_path / "whole.npy"), np.load(tmp_path / "other.npy")
    np.testing.assert_allclose(other, one, atol=1e-6 * one.max(), rtol=0)
    assert one.std() > 0.1 * one.max()
