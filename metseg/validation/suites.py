"""Running expectations with Great Expectations on tables in memory, and its Data Docs."""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from metseg.environment import apply_defaults
from metseg.files import folder_written_beside
from metseg.validation.expectations import Expected
from metseg.validation.offline_data_docs import make_offline

if TYPE_CHECKING:
    import pandas

SITE = "metseg"
INDEXED = {
    "cases": ["case"],
    "channels": ["case", "channel"],
    "slices": ["case", "slice_name", "channel"],
    "splits": ["split"],
    "drift": ["statistic"],
    "champion": ["aspect"],
}
"""Columns that name a row of each table."""


@dataclass(frozen=True)
class Outcome:
    """What came of one expectation.

    Attributes:
        name, severity, remedy: those of the expectation.
        success: whether it holds.
        observed: the value of a whole column, such as a sum; None for an expectation about rows.
        rows: the rows that break it, as `{column: value}` with `found`; empty for one about a whole column.
        error: why it could not be judged; empty where it could.
    """

    name: str
    severity: str
    remedy: str
    success: bool
    observed: Any
    rows: tuple[dict[str, Any], ...]
    error: str


def run_suites(
    expected: Sequence[Expected], tables: Mapping[str, pandas.DataFrame], docs: Path | None = None
) -> list[Outcome]:
    """Hold the tables against the expectations.

    Args:
        expected: what should hold.
        tables: by the name that expectations give; one that none is about is left out.
        docs: folder for one fresh site of Data Docs, which replaces what is there; `index.html` is its entry. None
            writes no site.
    """
    apply_defaults()  # nothing phones home: Great Expectations reads this when it is imported
    if docs is None:
        return _run(_context({}), expected, tables)
    shutil.rmtree(docs, ignore_errors=True)
    with folder_written_beside(docs) as beside:
        site = {
            "class_name": "SiteBuilder",
            "show_how_to_buttons": False,
            "store_backend": {"class_name": "TupleFilesystemStoreBackend", "base_directory": str(beside.resolve())},
            "site_index_builder": {"class_name": "DefaultSiteIndexBuilder"},
        }
        context = _context({SITE: site})
        outcomes = _run(context, expected, tables)
        context.build_data_docs(site_names=[SITE])
        make_offline(beside)
        beside.chmod(0o755)
    return outcomes


def _run(context: Any, expected: Sequence[Expected], tables: Mapping[str, pandas.DataFrame]) -> list[Outcome]:
    """The outcome of every expectation, table by table."""
    import great_expectations as gx

    source = context.data_sources.add_pandas("cohort")
    judged = [table for table in INDEXED if table in tables and any(one.table == table for one in expected)]
    definitions = [
        _definition(gx, context, source, table, [one for one in expected if one.table == table]) for table in judged
    ]
    outcomes = []
    for table, definition in zip(judged, definitions, strict=True):
        checkpoint = context.checkpoints.add(
            gx.Checkpoint(
                name=f"judge {table}",
                validation_definitions=[definition],
                result_format={"result_format": "COMPLETE", "unexpected_index_column_names": INDEXED[table]},
            )
        )
        result = checkpoint.run(batch_parameters={"dataframe": tables[table]})
        for run in result.run_results.values():
            outcomes += [_outcome(one, table, tables[table]) for one in run.results]
    return outcomes


def _context(sites: dict[str, Any]) -> Any:
    """A context that keeps everything in memory but its sites of Data Docs."""
    import great_expectations as gx
    from great_expectations.data_context.types.base import (
        DataContextConfig,
        InMemoryStoreBackendDefaults,
        ProgressBarsConfig,
    )

    configuration = DataContextConfig(
        # Without this, a folder for another site stays behind in the system's temporary folder.
        store_backend_defaults=InMemoryStoreBackendDefaults(init_temp_docs_sites=False),
        data_docs_sites=sites,
        progress_bars=ProgressBarsConfig(globally=False),
        analytics_enabled=False,
    )
    return gx.get_context(mode="ephemeral", project_config=configuration)


def _definition(gx: Any, context: Any, source: Any, table: str, expected: Sequence[Expected]) -> Any:
    suite = context.suites.add(gx.ExpectationSuite(name=table, expectations=[one.build() for one in expected]))
    batch = source.add_dataframe_asset(name=table).add_batch_definition_whole_dataframe(table)
    return context.validation_definitions.add(gx.ValidationDefinition(name=table, data=batch, suite=suite))


def _outcome(result: Any, table: str, frame: Any) -> Outcome:
    """The outcome of one result of Great Expectations on the table `table`."""
    configuration = result.expectation_config
    found = result.result or {}
    meta = configuration.meta
    shown = meta["shows"] or configuration.kwargs.get("column", "")
    places = [] if result.success else found.get("unexpected_index_list") or []
    lookup = frame.set_index(INDEXED[table])[shown].to_dict() if places and meta["shows"] else {}
    rows = []
    for place in places:
        key = tuple(place[name] for name in INDEXED[table])
        value = lookup.get(key if len(key) > 1 else key[0]) if lookup else place.get(shown)
        rows.append({**{name: place[name] for name in INDEXED[table]}, "found": value})
    return Outcome(
        name=meta["name"],
        severity=str(getattr(configuration.severity, "value", configuration.severity)),
        remedy=meta["remedy"],
        success=bool(result.success),
        observed=found.get("observed_value"),
        rows=tuple(rows),
        error=_error(result.exception_info or {}),
    )


def _error(information: dict[str, Any]) -> str:
    """Message of the exception that kept an expectation from being judged; empty where there was none."""
    nested = [information] if "raised_exception" in information else list(information.values())
    raised = [one for one in nested if isinstance(one, dict) and one.get("raised_exception")]
    return str(raised[0].get("exception_message")) if raised else ""
