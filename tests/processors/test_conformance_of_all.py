"""Every processor that comes with emstore is under the public conformance suite."""

import importlib.util
from pathlib import Path
from types import ModuleType

from emstore import registry
from emstore.testing import ProcessorConformance

HERE = Path(__file__).resolve().parent
OURS = sorted(name for name, plugin in registry.processors().items() if plugin.package == "emstore")


def module(path: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location(f"seen_{path.parent.name}_{path.stem}", path)
    assert spec is not None
    assert spec.loader is not None
    made = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(made)
    return made


def test_every_processor_is_under_the_public_suite() -> None:
    tested = {
        found.processor.name
        for path in HERE.glob("**/test_*.py")
        if "(ProcessorConformance)" in path.read_text()
        for name, found in vars(module(path)).items()
        if name.startswith("Test") and isinstance(found, type) and issubclass(found, ProcessorConformance)
    }
    # The suite cuts volumes into blocks; what takes tables alone has none.
    of_tables = {
        name for name in OURS if set(getattr(registry.processor(name), "tables", ())) >= set(registry.processor(name).inputs)
    }
    assert len(OURS) >= 27
    assert tested == set(OURS) - of_tables
