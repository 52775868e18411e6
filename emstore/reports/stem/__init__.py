"""The report ``stem``: what denoising and fitting do to positions, distances and vacancies in low-dose images.

`reading` tells from Records what each version is; `strain`, `histograms`, `profiles`, `residuals`, `images`, `columns` and
`vacancies` make a part of the page each, of what there is for it; `report` puts them together.
"""

from emstore.reports.stem.report import StemReport, StemReportParams

__all__ = ["StemReport", "StemReportParams"]
