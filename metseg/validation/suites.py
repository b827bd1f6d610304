"""Run expectations on tables in memory with Great Expectations, and build its Data Docs."""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from metseg.files import folder_written_beside
from metseg.process_environment import apply_defaults
from metseg.validation.expectations import Expected
from metseg.validation.offline_data_docs import make_offline

if TYPE_CHECKING:
    import pandas

SITE = "metseg"
VIEW = {"module_name": "metseg.validation.escaping_view", "class_name": "EscapingPageView"}
INDEXED = {
    "cases": ["case"],
    "channels": ["case", "channel"],
    "slices": ["case", "slice_name", "channel"],
    "splits": ["split"],
    "drift": ["statistic"],
    "champion": ["aspect"],
}
"""Columns that identify a row of each table."""


@dataclass(frozen=True)
class UnexpectedRow:
    """A row of a table that contradicts an expectation.

    Attributes:
        key: values of the columns that identify the row.
        value: the unexpected value.
    """

    key: Mapping[str, str]
    value: object


@dataclass(frozen=True)
class ExpectationResult:
    """The result of one expectation.

    Attributes:
        expected: the expectation.
        success: True if it holds.
        observed: value of a whole column, such as a sum; None for an expectation about rows.
        rows: unexpected rows; empty for an expectation about a whole column.
        error: the exception that prevented the evaluation; empty without one.
    """

    expected: Expected
    success: bool
    observed: object
    rows: tuple[UnexpectedRow, ...]
    error: str


def run_suites(
    expected: Sequence[Expected], tables: Mapping[str, pandas.DataFrame], docs: Path | None = None
) -> list[ExpectationResult]:
    """Evaluate expectations on tables.

    Args:
        expected: the expectations.
        tables: by the names that expectations give; tables without expectations are ignored.
        docs: folder for a new site of Data Docs, which replaces an existing one; its entry is `index.html`. None
            writes no site.
    """
    apply_defaults()  # Great Expectations reads the setting against telemetry when it is imported
    if docs is None:
        return _run(_context({}), expected, tables)
    shutil.rmtree(docs, ignore_errors=True)
    with folder_written_beside(docs) as temporary:
        site = {
            "class_name": "SiteBuilder",
            "show_how_to_buttons": False,
            "store_backend": {"class_name": "TupleFilesystemStoreBackend", "base_directory": str(temporary.resolve())},
            "site_index_builder": {"class_name": "DefaultSiteIndexBuilder"},
            "site_section_builders": {
                section: {"view": VIEW} for section in ("expectations", "validations", "profiling")
            },
        }
        context = _context({SITE: site})
        results = _run(context, expected, tables)
        context.build_data_docs(site_names=[SITE])
        make_offline(temporary)
    return results


def _run(context: Any, expected: Sequence[Expected], tables: Mapping[str, pandas.DataFrame]) -> list[ExpectationResult]:
    """Return the result of every expectation, table by table."""
    import great_expectations as gx

    source = context.data_sources.add_pandas("cohort")
    results = []
    for name in INDEXED:
        by_name = {one.name: one for one in expected if one.table == name}
        if not by_name or name not in tables:
            continue
        built = [one.build() for one in by_name.values()]
        suite = context.suites.add(gx.ExpectationSuite(name=name, expectations=built))
        batch = source.add_dataframe_asset(name=name).add_batch_definition_whole_dataframe(name)
        definition = context.validation_definitions.add(gx.ValidationDefinition(name=name, data=batch, suite=suite))
        checkpoint = context.checkpoints.add(
            gx.Checkpoint(
                name=f"judge {name}",
                validation_definitions=[definition],
                result_format={"result_format": "COMPLETE", "unexpected_index_column_names": INDEXED[name]},
            )
        )
        checked = checkpoint.run(batch_parameters={"dataframe": tables[name]})
        for of_suite in checked.run_results.values():
            results += [_expectation_result(one, by_name, tables[name]) for one in of_suite.results]
    return results


def _context(sites: Mapping[str, object]) -> Any:
    """Return a context that keeps everything in memory except its sites of Data Docs."""
    import great_expectations as gx
    from great_expectations.data_context.types.base import (
        DataContextConfig,
        InMemoryStoreBackendDefaults,
        ProgressBarsConfig,
    )

    configuration = DataContextConfig(
        # Otherwise a folder for another site remains in the system's temporary folder.
        store_backend_defaults=InMemoryStoreBackendDefaults(init_temp_docs_sites=False),
        data_docs_sites=dict(sites),
        progress_bars=ProgressBarsConfig(globally=False),
        analytics_enabled=False,
    )
    return gx.get_context(mode="ephemeral", project_config=configuration)


def _expectation_result(result: Any, by_name: Mapping[str, Expected], frame: pandas.DataFrame) -> ExpectationResult:
    """Convert one result of Great Expectations on a table."""
    content = result.result or {}
    expected = by_name[result.expectation_config.meta["name"]]
    index = INDEXED[expected.table]
    column = expected.shows or str(expected.arguments.get("column", ""))
    places = [] if result.success else content.get("unexpected_index_list") or []
    lookup = frame.set_index(index)[column].to_dict() if places and expected.shows else {}
    rows = []
    for place in places:
        key = tuple(place[name] for name in index)
        value = lookup.get(key if len(key) > 1 else key[0]) if lookup else place.get(column)
        rows.append(UnexpectedRow({name: str(place[name]) for name in index}, value))
    return ExpectationResult(
        expected=expected,
        success=bool(result.success),
        observed=content.get("observed_value"),
        rows=tuple(rows),
        error=_error(result.exception_info or {}),
    )


def _error(information: Mapping[str, object]) -> str:
    """Return the message of the exception that prevented an evaluation; empty without one."""
    nested = [information] if "raised_exception" in information else list(information.values())
    raised = [one for one in nested if isinstance(one, dict) and one.get("raised_exception")]
    return str(raised[0].get("exception_message")) if raised else ""
