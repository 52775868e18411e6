"""What an image says of its values follows them through processes, as long as it is true."""

from pathlib import Path

import numpy as np

import emstore
from emstore.geometry import Axis, AxisKind
from sealed import seal, volume


def test_quantity_and_dose_follow_the_values(tmp_path: Path) -> None:
    store = str(tmp_path / "lab.zarr")
    emstore.create_store(store)
    frames = volume(
        "series",
        np.random.default_rng(0).poisson(9, (4, 12, 10)).astype("u2"),
        Axis("t", 4, AxisKind.TIME),
        *(Axis(name, size, spacing=0.2, unit="angstrom") for name, size in (("y", 12), ("x", 10))),
        attributes={
            "quantity": "electrons",
            "dose": {"value": [100.0, 200.0, 300.0, 400.0], "unit": "electron/angstrom^2"},
            "read_how": "not a fact about values",
        },
    )
    seal(frames, f"{store}/te/raw")

    def made(name: str, of: str, to: str, **params: object) -> dict[str, object]:
        attributes = emstore.process(name, [f"{store}/te/{of}"], f"{store}/te/{to}", params=params).version.info.volume.attributes
        return dict(attributes)

    smooth = made("denoise.gaussian", "raw", "smooth", sigma=1.0)
    assert smooth["quantity"] == "electrons"
    assert smooth["dose"] == frames.attributes["dose"]
    assert "read_how" not in smooth
    part = made("transform.crop", "smooth", "part", index={"t": [1, 3]})
    assert part["quantity"] == "electrons"
    assert "dose" not in part  # it was one per frame, of four frames
    assert made("transform.rescale", "raw", "bytes", percentiles=[0, 100], dtype="uint8")["quantity"] == "rescaled"
    assert "quantity" not in made("segment.otsu", "raw", "mask")
