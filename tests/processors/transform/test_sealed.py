"""Grid-changing processors through the whole engine: what is sealed is what was computed, in its place, with what was found."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy import ndimage

from emstore import registry
from emstore.geometry import Affine, Axis, Space
from emstore.processing import process
from emstore.store import Version, create_store, open_version
from in_blocks import evaluate, planned
from sealed import seal, volume


@pytest.fixture(scope="module")
def raw(tmp_path_factory: pytest.TempPathFactory) -> Version:
    folder: Path = tmp_path_factory.mktemp("grids") / "lab.zarr"
    create_store(str(folder))
    rng = np.random.default_rng(8)
    values = ndimage.gaussian_filter(rng.normal(size=(9, 150, 140)), (0.5, 2, 2))
    values = np.rint((values - values.min()) / np.ptp(values) * 4000).astype(np.uint16)
    matrix = np.eye(4)
    matrix[:3, :3] = np.linalg.qr(rng.normal(size=(3, 3)))[0] * [3.0, 1.0, 1.0]
    axes = (
        Axis("z", 9, spacing=3.0, unit="millimeter"),
        *(Axis(n, s, spacing=1.0, unit="millimeter") for n, s in (("y", 150), ("x", 140))),
    )
    return seal(volume("ct", values, *axes, affine=Affine.of(matrix, Space.LPS, "millimeter")), f"{folder}/liver/raw")


@pytest.mark.parametrize(
    ("name", "params"),
    [
        ("interpolate.cubic", {"isotropic": True}),
        ("interpolate.nearest", {"axis": "x", "factor": 2}),
        ("transform.crop", {"position": {"y": [20, 99.5]}, "index": {"z": [2, None]}}),
        ("transform.resample", {"spacing": {"z": 1.5, "x": 2.3}, "method": "linear"}),
        ("transform.project", {"how": "sum"}),
        ("transform.rescale", {"percentiles": [1, 99], "dtype": "uint8"}),
        ("transform.calibrate", {"spacing": {"z": 2.5}, "terms": {"sample/identifier_sample": "A7"}}),
        ("register.slices", {"upsample": 4, "against": "fixed", "stays": 3}),
        ("register.slices", {"upsample": 4}),
    ],
)
def test_a_sealed_result_is_the_computed_one(raw: Version, name: str, params: dict[str, Any]) -> None:
    target = f"{raw.store.url}/liver/{name.replace('.', '-')}-{len(params)}"
    made = process(name, [raw.ref], target, params=params).version
    operation = planned(registry.processor(name), raw.volume(), **params)
    assert operation.result is not None
    sealed = open_version(made.ref).volume()
    np.testing.assert_array_equal(sealed.data[tuple(slice(0, n) for n in sealed.shape)], evaluate(operation, [raw.volume()]))
    assert sealed.grid == operation.result.grid
    for key, value in operation.result.attributes.items():
        assert sealed.attributes[key] == value
    if operation.tell is not None:
        assert set(sealed.attributes) - set(operation.result.attributes)
    if operation.result.terms is not None:
        assert sealed.header.terms == operation.result.terms
