"""NIfTI-1 and NIfTI-2: ``.nii``, ``.nii.gz``, ``.hdr``/``.img`` pairs, either byte order.

The header is parsed by nibabel; the voxels are read here, because nibabel's proxy either maps the file or unpacks from
the start for every slice of a gzip stream.

Rules
-----
- On disk the first index runs fastest: ``(i, j, k, t, u)`` in Fortran order is ``(u, t, z, y, x)`` in C order. The array
  is given as ``(t, c, z, y, x)``; dimension 5 is ``c`` unless the voxels are RGB, whose samples are ``c`` then; dimensions
  6 and 7 are ``d6`` and ``d7``, and dimension 4 is ``d4`` where its unit says that it is no time. Dimensions that the
  header leaves out count as 1 up to ``z`` (NIfTI-1, ``dim``).
- *The* grid is the sform if its code is not 0, else the qform if its code is not 0: nibabel's ``get_best_affine``. With
  both codes 0 the position is unknown (NIfTI-1, "method 1" exists for ANALYZE only): no affine, distances from
  ``pixdim``. Both matrices and codes are kept in ``attributes["nifti"]`` whichever is chosen.
- Distances along the axes are ``pixdim``; where the chosen matrix disagrees with it by more than 0.1 %, the matrix wins
  and a note says so.
- Unknown units stay unknown; a distance of 1 without a unit is a placeholder and becomes null.
- Stored values are never scaled: ``scl_slope`` and ``scl_inter`` go to the value scale.
"""

from emstore_adapters.nifti.adapter import NiftiAdapter

__all__ = ["NiftiAdapter"]
