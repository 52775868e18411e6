"""The one-line summaries of the processors that come with emstore are in one style."""

import pytest

from emstore import registry

OURS = sorted(name for name, plugin in registry.processors().items() if plugin.package == "emstore")
VERBS = {
    "Add",
    "Average",
    "Compare",
    "Correct",
    "Count",
    "Cut",
    "Filter",
    "Give",
    "Label",
    "Map",
    "Measure",
    "Minimise",
    "Move",
    "Part",
    "Put",
    "Replace",
    "Simulate",
    "Smooth",
    "Sum",
    "Take",
}


@pytest.mark.parametrize("name", OURS)
def test_summaries_are_imperatives_without_a_full_stop(name: str) -> None:
    summary = registry.processor(name).summary
    assert summary.split()[0] in VERBS
    assert not summary.endswith(".")
    assert len(summary) <= 110
    assert " & " not in summary
    assert "and others" not in summary, "several authors are 'et al.' in all of them"
