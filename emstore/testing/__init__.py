"""Tests that adapter authors run on their own files.

    from emstore.testing import AdapterConformance

    class TestMyAdapter(AdapterConformance):
        adapter = MyAdapter
        files = ["tests/small.xyz", "tests/large.xyz"]

Needs pytest and hypothesis. Nothing of emstore itself imports this package.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from emstore.testing.conformance import AdapterConformance
    from emstore.testing.samples import Sample

__all__ = ["AdapterConformance", "Sample"]


def __getattr__(name: str) -> Any:
    # Lazy, because the measuring process imports `emstore.testing.measure` and must not carry pytest around.
    if name == "AdapterConformance":
        from emstore.testing.conformance import AdapterConformance

        return AdapterConformance
    if name == "Sample":
        from emstore.testing.samples import Sample

        return Sample
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
