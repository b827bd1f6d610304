"""Kubeflow component of the ingest step."""

from kfp import dsl

from components.images import DATA_IMAGE


@dsl.component(base_image=DATA_IMAGE, install_kfp_package=False)
def ingest(
    reference: str,
    layout: str,
    channels: str,
    labels: str,
    mask_threshold: int,
    resample_masks: bool,
    model_name: str,
    run_name: str,
    cohort: dsl.Output[dsl.Dataset],  # type: ignore[valid-type]
    counted: dsl.Output[dsl.Metrics],  # type: ignore[valid-type]
    page: dsl.Output[dsl.Markdown],  # type: ignore[valid-type]
) -> str:
    """Read a data reference into canonical cases and a manifest, split by patient."""
    from components.execution import executing

    with executing("ingest", cohort.path) as folder:
        from pathlib import Path

        from components.ingest.step import counts, summary
        from components.ingest.step import ingest as step

        run = step(
            reference,
            folder,
            layout=layout,
            channels=channels,
            labels=labels,
            mask_threshold=mask_threshold,
            resample_masks=resample_masks,
            model_name=model_name,
            run_name=run_name,
        )
        for name, count in counts(folder).items():
            counted.log_metric(name, count)
        Path(page.path).write_text(summary(folder, run), encoding="utf-8")
    return run
