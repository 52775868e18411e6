"""Reading MRC, MRCS, REC and CCP4 MAP files, plain, ``.gz`` or ``.bz2``.

Sources: MRC2014 (Cheng et al., J. Struct. Biol. 192, 146 (2015); www.ccpem.ac.uk/mrc_format/mrc2014.php), IMOD's notes on
its own use of the header (bio3d.colorado.edu/imod/doc/mrc_format.txt), and the FEI extended header as mrcfile types it.

Rules, each stated in the volume's notes where it was used:

- Axes are ``z, y, x`` whatever ``mapc, mapr, maps`` say; stored values are only transposed.
- Space group 0 with ``mz = 1`` is a stack of images (axis ``n``), 401 to 630 a stack of volumes, else a volume.
- Voxel size is ``cella / mxyz`` in ångström. 0, negative values, and 1 on every axis in a file older than MRC2014, where
  programs wrote it without knowing, are unknown.
- A Direct Electron movie takes its axes from the ``_info.txt`` beside it: a raster scan becomes ``y, x, ky, kx``.
"""

from emstore_adapters.mrc.adapter import MrcAdapter

__all__ = ["MrcAdapter"]
