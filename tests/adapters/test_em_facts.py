"""Names, axes, headers and terms of electron microscopy files, against the files' own words."""

import json
import re
import struct
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from emstore.errors import SourceUnreadable
from emstore.geometry import AxisKind
from emstore.source import Source
from emstore.volume import Volume
from emstore_adapters.em import EmAdapter, terms
from emstore_adapters.em.axes import RawAxis, arrange
from emstore_adapters.em.signals import unique_names

Find = Callable[[str], Path]


@pytest.fixture
def opened(instrument_file: Find) -> Callable[..., list[Volume]]:
    pytest.importorskip("rsciio")

    def read(*names: str) -> list[Volume]:
        return list(EmAdapter().open(Source.of([instrument_file(f"stem/{name}") for name in names])))

    return read


def bytes_of(volume: Volume) -> bytes:
    return volume.data[tuple(slice(0, n) for n in volume.shape)].tobytes()


@pytest.mark.parametrize("name", ["test_STEM_image.dm3", "EELS_SI.dm4"])
def test_raw_header_and_pixels_add_up_to_the_file(opened: Callable[..., list[Volume]], instrument_file: Find, name: str) -> None:
    [volume] = opened(name)
    content = instrument_file(f"stem/{name}").read_bytes()
    [raw] = volume.header.raw
    header, rebuilt, at = raw.read(), b"", 0
    for start, length in volume.attributes["pixel_spans"]:
        rebuilt += header[: start - at] + content[start : start + length]
        header, at = header[start - at :], start + length
    assert rebuilt + header == content
    assert any(content[start : start + length] == bytes_of(volume) for start, length in volume.attributes["pixel_spans"])


def test_the_raw_header_of_a_series_is_all_but_its_values(opened: Callable[..., list[Volume]], instrument_file: Find) -> None:
    [volume] = opened("tia/64x64x5_TEM_preview_1.ser")
    content = instrument_file("stem/tia/64x64x5_TEM_preview_1.ser").read_bytes()
    assert len(volume.header.raw[0].read()) == len(content) - volume.nbytes
    assert content.startswith(volume.header.raw[0].read()[:68])


def test_velox_keeps_each_description_as_it_was_written(opened: Callable[..., list[Volume]]) -> None:
    for volume in opened("fei_example_dpc_titles.emd"):
        stated = json.loads(volume.header.raw[0].read())
        assert volume.header.tree["Optics"] == stated["Optics"]
        voltage = float(stated["Optics"]["AccelerationVoltage"])
        assert volume.header.terms[terms.VOLTAGE] == {"value": voltage / 1e3, "unit": "kilovolt"}
        assert volume.header.terms[terms.STAGE_X]["value"] == pytest.approx(float(stated["Stage"]["Position"]["x"]) * 1e6)
        assert volume.header.terms[terms.ALPHA]["value"] == pytest.approx(np.degrees(float(stated["Stage"]["AlphaTilt"])))


def test_the_dose_is_derived_from_current_dwell_time_and_pixel(opened: Callable[..., list[Volume]]) -> None:
    volume = opened("fei_example_dpc_titles.emd")[0]
    stated = json.loads(volume.header.raw[0].read())
    current, dwell = float(stated["Optics"]["LastMeasuredScreenCurrent"]), float(stated["Scan"]["DwellTime"])
    pixel = float(stated["BinaryResult"]["PixelSize"]["width"]) * 1e10
    electrons = current * dwell / 1.602176634e-19 / pixel**2
    assert volume.header.terms[terms.DOSE] == {"value": pytest.approx(electrons), "unit": "electron/angstrom^2"}
    assert "derived" in volume.header.terms[terms.DOSE_ORIGIN]
    assert "last measured screen current" in volume.header.terms[terms.DOSE_ORIGIN]


def test_tia_terms_are_those_of_its_xml(opened: Callable[..., list[Volume]], instrument_file: Find) -> None:
    text = instrument_file("stem/tia/16x16x5_STEM_BF_DF_preview.emi").read_bytes().decode("latin-1")

    def stated(label: str) -> float:
        found = re.search(rf"<Label>{label}</Label>\s*<Value>([^<]*)</Value>", text)
        assert found
        return float(found[1])

    first, second = opened("tia/16x16x5_STEM_BF_DF_preview.emi")
    for volume in (first, second):
        assert volume.header.terms[terms.VOLTAGE] == {"value": stated("High tension"), "unit": "kilovolt"}
        assert volume.header.terms[terms.STAGE_X]["value"] == stated("Stage X")
        assert volume.header.terms[terms.CAMERA_LENGTH]["value"] == pytest.approx(1000 * stated("Camera length"))
        assert volume.modality == "stem"
    assert text.count("<ObjectInfo>") == first.header.raw[1].read().count(b"<ObjectInfo>") == 2


def test_tia_origins_are_in_the_unit_of_their_axis(opened: Callable[..., list[Volume]], instrument_file: Find) -> None:
    """The file states metres for both; rosettasciio converts the spacing alone."""
    [volume] = opened("tia/128x128_TEM_acquire-sum1_1.ser")
    content = instrument_file("stem/tia/128x128_TEM_acquire-sum1_1.ser").read_bytes()
    [table] = struct.unpack("<I", content[22:26])
    [at] = struct.unpack("<I", content[table : table + 4])
    offset, delta, element = struct.unpack("<ddI", content[at : at + 20])
    x = volume.grid.axis("x")
    assert (x.spacing, x.unit) == (pytest.approx(delta * 1e9), "nanometer")
    assert x.origin == pytest.approx((offset - element * delta) * 1e9)


def test_terms_of_a_digitalmicrograph_image(opened: Callable[..., list[Volume]]) -> None:
    from rsciio.digitalmicrograph import file_reader

    [volume] = opened("test_STEM_image.dm3")
    tags = file_reader(str(volume.files[0]))[0]["original_metadata"]["ImageList"]["TagGroup0"]["ImageTags"]
    info = tags["Microscope Info"]
    assert volume.header.terms[terms.VOLTAGE] == {"value": info["Voltage"] / 1000, "unit": "kilovolt"}
    assert volume.header.terms[terms.STAGE_Z]["value"] == pytest.approx(info["Stage Position"]["Stage Z"])
    assert volume.header.terms[terms.DWELL]["value"] == pytest.approx(tags["DigiScan"]["Sample Time"] * 1e-6)
    assert volume.header.terms[terms.MODEL] == info["Name"]
    # A probe current of zero means that none was measured.
    assert info["Probe Current (nA)"] == 0
    assert terms.CURRENT not in volume.header.terms


def test_images_come_before_spectra_and_names_are_unique(opened: Callable[..., list[Volume]]) -> None:
    assert [volume.name for volume in opened("multi_signal.dm3")] == ["HAADF", "Plot"]
    assert [volume.name for volume in opened("EDS-STO.emd")] == [f"EDS-{n}" for n in range(1, 6)]
    assert unique_names(["EDS", "HAADF", "EDS", "EDS-1"]) == ["EDS-2", "HAADF", "EDS-3", "EDS-1"]


def test_what_a_velox_detector_saw_comes_before_what_was_computed(opened: Callable[..., list[Volume]]) -> None:
    volumes = opened("fei_example_dpc_titles.emd")
    assert [volume.name for volume in volumes[:4]] == ["DF4-C", "DF4-B", "DF4-A", "DF4-D"]
    assert {volume.name for volume in volumes[4:]} == {"B-D", "A-C", "DPC", "iDPC", "Filtered iDPC"}
    # Whatever the result is called, the detector is that of the file's own description.
    assert [volume.header.terms[terms.DETECTOR] for volume in volumes[4:]] == ["DF4"] * 5
    [stack], [transform] = opened("fei_example_tem_stack.emd"), opened("fei_example_complex_fft.emd")
    assert stack.header.terms[terms.DETECTOR] == "Ceta"
    assert transform.header.terms[terms.DETECTOR] == "BM-Ceta"


def test_axes_have_our_names_and_kinds(opened: Callable[..., list[Volume]]) -> None:
    def axes(name: str) -> list[tuple[str, AxisKind]]:
        return [(axis.name, axis.kind) for axis in opened(name)[0].grid.axes]

    space, reciprocal = AxisKind.SPACE, AxisKind.RECIPROCAL
    assert axes("EELS_SI.dm4") == [("energy", AxisKind.SPECTRAL), ("y", space), ("x", space)]
    assert axes("test_diffraction_pattern.dm3") == [("y", reciprocal), ("x", reciprocal)]
    assert axes("test1.blo") == [("y", space), ("x", space), ("ky", reciprocal), ("kx", reciprocal)]
    assert axes("Si100_4D.emd") == [("z", space), ("y", space), ("x", space), ("ky", reciprocal), ("kx", reciprocal)]
    assert axes("fei_example_tem_stack.emd") == [("t", AxisKind.TIME), ("y", space), ("x", space)]
    assert axes("stem_abf_data_imagestack.hspy") == [("z", space), ("y", space), ("x", space)]
    assert opened("test-23.dm4")[0].grid.axes[0].labels == ("R", "G", "B", "A")


def test_unknown_unit_words_are_kept_and_placeholders_are_not(opened: Callable[..., list[Volume]]) -> None:
    z, y, x = opened("nionswift_dmio/ref_T_0_1.dm3")[0].grid.axes
    assert (z.spacing, z.unit, x.spacing, x.unit) == (2.2, "µn", 2.0, "µ")
    assert (y.spacing, y.unit) == (None, None)


def named(*axes: tuple[Any, ...]) -> tuple[list[str], tuple[int, ...]]:
    made = [RawAxis(name, 2 + n, 0.5, unit=unit, navigate=scan) for n, (name, unit, scan) in enumerate(axes)]
    found, order = arrange(made)
    assert [axis.size for axis in found] == [2 + n for n in order]
    return [axis.name for axis in found], order


@pytest.mark.parametrize(
    ("axes", "names", "order"),
    [
        ([("x", "nm", None), ("y", "nm", None)], ["y", "x"], (1, 0)),
        (
            [(None, None, True), ("z", "nm", True), ("y", "1/nm", False), ("x", "1/nm", False)],
            ["y", "x", "ky", "kx"],
            (0, 1, 2, 3),
        ),
        ([("a", None, None), ("b", None, None), ("c", None, None), ("d", None, None)], ["y", "x", "ky", "kx"], (0, 1, 2, 3)),
        ([("y", "nm", True), ("x", "nm", True), ("Energy loss", "eV", False)], ["y", "x", "energy"], (0, 1, 2)),
        ([("scan", "nm", True), ("E", "keV", False)], ["x", "energy"], (0, 1)),
        ([("Time", "s", True), ("dy", "nm", False), ("dx", "nm", False)], ["t", "y", "x"], (0, 1, 2)),
        ([("", "", True), ("", "", False)], ["x", "signal"], (0, 1)),
        ([("Counts / bin", "", False)], ["counts___bin"], (0,)),
    ],
)
def test_naming_rules(axes: list[tuple[Any, ...]], names: list[str], order: tuple[int, ...]) -> None:
    assert named(*axes) == (names, order)


def test_irregular_axes_keep_every_position() -> None:
    [axis], _ = arrange([RawAxis.of({"name": "z", "axis": [0.0, 1.0, 4.0], "units": "nm"}, 3)])
    assert (axis.positions, axis.spacing, axis.unit) == ((0.0, 1.0, 4.0), None, "nanometer")


def test_the_parts_of_a_split_stream_are_one_volume(opened: Callable[..., list[Volume]]) -> None:
    names = [f"tvips/test_tvips_2345_split_00{n}.tvips" for n in range(3)]
    [alone], [together] = opened(names[0]), opened(*names)
    assert alone.shape == together.shape == (6, 4, 5)
    assert [path.name for path in alone.files] == [Path(name).name for name in names]
    for name in names[1:]:
        with pytest.raises(SourceUnreadable, match=r"part 000, test_tvips_2345_split_000\.tvips"):
            opened(name)


def test_an_emi_and_its_series_are_read_once(opened: Callable[..., list[Volume]]) -> None:
    names = ["16x16x5_STEM_BF_DF_preview.emi", "16x16x5_STEM_BF_DF_preview_1.ser", "16x16x5_STEM_BF_DF_preview_2.ser"]
    volumes = opened(*(f"tia/{name}" for name in names))
    assert [{path.name for path in volume.files} for volume in volumes] == [{names[1], names[0]}, {names[2], names[0]}]


def test_an_emi_without_its_series_says_what_is_missing(instrument_file: Find, tmp_path: Path) -> None:
    lonely = tmp_path / "scan.emi"
    lonely.write_bytes(instrument_file("stem/tia/64x64x5_TEM_preview.emi").read_bytes())
    with pytest.raises(SourceUnreadable, match=r"scan_1\.ser"):
        EmAdapter().open(Source.of([lonely]))


WITHOUT = """
import sys

class Blocked:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] == "rsciio":
            raise ModuleNotFoundError(name)

sys.meta_path.insert(0, Blocked())
from emstore.source import Source
from emstore_adapters.em import EmAdapter

for path in sys.argv[1:]:
    source = Source.of([path])
    score = EmAdapter().sniff(source.items[0])
    try:
        print(score, len(EmAdapter().open(source)))
    except Exception as error:
        print(score, type(error).__name__, error.kind, error.fix.split(", or")[0])
"""


def test_without_rosettasciio_the_extra_is_named_and_the_rest_still_opens(instrument_file: Find) -> None:
    names = ["test-1.dm3", "fei_example_tem_stack.emd", "example_image.emd", "test1.blo", "example2_v3.1.hspy"]
    paths = [str(instrument_file(f"stem/{name}")) for name in names]
    result = subprocess.run([sys.executable, "-c", WITHOUT, *paths], capture_output=True, text=True, timeout=60, check=True)
    missing = "97 InvalidInput missing_extra pip install 'emstore[em]'"
    assert result.stdout.splitlines() == [missing, missing, missing, "97 1", "97 1"]
