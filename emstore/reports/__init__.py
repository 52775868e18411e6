"""Reports: one HTML page from sealed versions, readable anywhere, with every figure's versions named beside it.

`making` is the use case; `ancestry` finds what the versions were made from; `html` renders a page with `vector` (pictures) and
`versions` (the list of Records); `drawing` is for authors of reports. `stem` is one.
"""

from emstore.reports.making import Reported, report

__all__ = ["Reported", "report"]
