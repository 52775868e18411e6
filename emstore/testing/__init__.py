"""Tests that authors of adapters and processors run on their own files and arrays.

    from emstore.testing import AdapterConformance

    class TestMyAdapter(AdapterConformance):
        adapter = MyAdapter
        files = ["tests/small.xyz", "tests/large.xyz"]

    from emstore.testing import ProcessorConformance

    class TestMyProcessor(ProcessorConformance):
        processor = MyProcessor
        volumes = [np.arange(8 * 9 * 10, dtype="u2").reshape(8, 9, 10)]
        params = [{"radius": 1}, {"radius": 3}]

Needs pytest and hypothesis. Nothing of emstore itself imports this package.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from emstore.testing.conformance import AdapterConformance
    from emstore.testing.processors import ProcessorCase, ProcessorConformance
    from emstore.testing.samples import Sample

__all__ = ["AdapterConformance", "ProcessorCase", "ProcessorConformance", "Sample"]


def __getattr__(name: str) -> Any:
    # Lazy, because the measuring process imports `emstore.testing.measure` and must not carry pytest around.
    if name == "AdapterConformance":
        from emstore.testing.conformance import AdapterConformance

        return AdapterConformance
    if name in ("ProcessorCase", "ProcessorConformance"):
        from emstore.testing import processors

        return getattr(processors, name)
    if name == "Sample":
        from emstore.testing.samples import Sample

        return Sample
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
