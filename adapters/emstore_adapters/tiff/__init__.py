"""TIFF: single pages, folders of slices, stacks, BigTIFF, tiles, ImageJ, OME-TIFF, and what microscopes add to it.

Rules
-----
- A folder of single-page files is one stack along ``z``, in the natural order of the names. A slice that differs from the
  first in shape or type is an error by name; only where the names are no numbered series (most of them alike but for
  their digits) are files that do not fit each other pictures of their own. Folders inside folders are stacks of their own.
- Files with several pages stay volumes of their own; pages of a plain multi-page file run along ``z``.
- Samples (RGB, RGBA) are the ``c`` axis. Values are kept as stored: indices of a colour table stay indices,
  ``miniswhite`` stays inverted; a note says so.
- Pixel sizes come from OME-XML, ImageJ, Zeiss, FEI/Thermo Fisher, TVIPS and Gatan tags, and from ``XResolution`` only
  where it is not a usual screen or print setting (see `emstore_adapters.tiff.scale`).
- The raw header is every byte of the file outside its strips and tiles, in file order: directories, tag values, and
  whatever vendors keep between them, up to 64 MiB per file. For a folder it is a zip with one member per file.
- Of a pyramid only the full level is read; the others are listed in a note.
"""

from emstore_adapters.tiff.adapter import TiffAdapter

__all__ = ["TiffAdapter"]
