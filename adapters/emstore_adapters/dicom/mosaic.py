"""Siemens mosaics: the slices of one MR volume tiled into a single frame.

The header places the mosaic as if it were one huge slice with the volume's centre, so the first tile's corner is half the
difference of the two sizes further in. How many tiles are used and which way the slices go stands in Siemens' own
private header (CSA: ``NumberOfImagesInMosaic``, ``SliceNormalVector``). Tiles run row by row from the top left.
"""

import math
from typing import TYPE_CHECKING

from emstore_adapters.dicom import values
from emstore_adapters.dicom.planes import DicomFile, Place, Plane, Vector, classic_planes, cross, unit
from emstore_adapters.dicom.quiet import quiet

if TYPE_CHECKING:
    from pydicom.dataset import Dataset


def is_mosaic(dataset: "Dataset") -> bool:
    """Whether the header calls the image a mosaic."""
    return "MOSAIC" in values.texts(dataset, "ImageType") or "VFRAME" in values.texts(dataset, "ImageType")


def mosaic_planes(file: DicomFile, dataset: "Dataset") -> list[Plane]:
    """Return one plane per tile; the untiled frame without a place, with a note, when the private header is missing."""
    whole = classic_planes(file, dataset)
    layout = file.reader.layout
    count, normal = _csa(dataset)
    if count is None or not whole or layout.frames != 1:
        file.notes.append(
            "This is a Siemens mosaic without its private header (CSA), so the number of slices is not known: "
            "the mosaic is kept as it is, without a place in space."
        )
        return []
    across = math.ceil(math.sqrt(count))
    rows, columns = layout.rows // across, layout.columns // across
    if count < 1 or rows * across != layout.rows or columns * across != layout.columns:
        file.notes.append(f"{count} slices do not fit a mosaic of {layout.rows} x {layout.columns}; it is kept as it is.")
        return []
    plane = whole[0]
    row, column = plane.place.orientation[:3], plane.place.orientation[3:]
    step = plane.gap or plane.thickness
    if step is None:
        file.notes.append("The mosaic does not state the distance between its slices; it is kept as it is.")
        return []
    if normal is None:
        normal = cross(row, column)
        file.notes.append("The mosaic's private header has no slice normal; rows x columns was used.")
    between_rows, between_columns = plane.place.spacing
    corner = [
        p + r * between_columns * (layout.columns - columns) / 2 + c * between_rows * (layout.rows - rows) / 2
        for p, r, c in zip(plane.place.position, row, column, strict=True)
    ]
    file.notes.append(f"Siemens mosaic of {count} slices, cut into slices {step:g} mm apart.")
    return [
        Plane(
            file,
            0,
            Place(
                tuple(p + k * step * n for p, n in zip(corner, normal, strict=True)), plane.place.orientation, plane.place.spacing
            ),
            plane.rescale,
            tile=(k // across * rows, k % across * columns, rows, columns),
            keys=plane.keys,
            thickness=plane.thickness,
            gap=plane.gap,
        )
        for k in range(count)
    ]


def _csa(dataset: "Dataset") -> tuple[int | None, Vector | None]:
    """Return the number of slices and their normal from Siemens' private header."""
    with quiet():
        from nibabel.nicom import csareader

        try:
            header = csareader.get_csa_header(dataset)
            if header is not None:
                count = csareader.get_n_mosaic(header)
                normal = csareader.get_slice_normal(header)
                found = None if normal is None else unit(tuple(float(v) for v in normal))
                return (int(count) if count else None), found
            block = dataset.private_block(0x0019, "SIEMENS MR HEADER")
            return int(block[0x0A].value), None
        except (*values.BAD_VALUE, csareader.CSAError, AssertionError):
            return None, None
