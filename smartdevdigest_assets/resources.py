"""The resources: what to compute with, and where stages run."""

import os
import sys
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import dagster as dg
from pydantic import Field

from smartdevdigest_ops.artifacts import ArtifactStore, Making
from smartdevdigest_ops.errors import UserError
from smartdevdigest_ops.settings import Settings, load_settings
from smartdevdigest_ops.stage import StageSpec, find_making, get_stage, plan_stage, run_stage
from smartdevdigest_ops.stage.process import ERROR_SUFFIX, PARENT_VARIABLE
from smartdevdigest_ops.training.curve_table import curve_table

_MEBIBYTE = 1024 * 1024


class ComputeResource(dg.ConfigurableResource):
    """Device, precision and threads of the stages that compute on tensors; `settings` where left at its default."""

    device: Literal["settings", "auto", "cuda", "mps", "cpu"] = Field(default="settings")
    precision: Literal["settings", "auto", "float32", "bfloat16"] = Field(default="settings")
    threads: int = Field(default=0, ge=0, description="CPU threads; 0: as in the settings.")

    def over(self, settings: Settings) -> Settings:
        """The settings with this resource's choices laid over `model.device`, `.precision` and `.threads`."""
        chosen = {
            "device": settings.model.device if self.device == "settings" else self.device,
            "precision": settings.model.precision if self.precision == "settings" else self.precision,
            "threads": self.threads or settings.model.threads,
        }
        return settings.model_copy(update={"model": settings.model.model_copy(update=chosen)})

    def readings(self, making: Making) -> dict[str, dg.MetadataValue]:
        """What the making used, as metadata that plots: device, wall time, peak memory of process and GPU."""
        used = making.resources
        metadata: dict[str, dg.MetadataValue] = {
            "device": dg.MetadataValue.text(used["device"]),
            "wall_seconds": dg.MetadataValue.float(used["wall_seconds"]),
            "peak_rss_mib": dg.MetadataValue.float(round(used["peak_rss_bytes"] / _MEBIBYTE, 1)),
        }
        if used.get("energy_joules") is not None:
            metadata["energy_joules"] = dg.MetadataValue.float(used["energy_joules"])
        if used["peak_gpu_bytes"] is not None:
            metadata["peak_gpu_mib"] = dg.MetadataValue.float(round(used["peak_gpu_bytes"] / _MEBIBYTE, 1))
        return metadata


class StageRunner(dg.ConfigurableResource):
    """Runs the stage of the asset at hand: light ones here, heavy ones in a process of their own (Dagster Pipes)."""

    compute: dg.ResourceDependency[ComputeResource]

    def materialize(self, context: dg.AssetExecutionContext) -> dg.MaterializeResult:
        """Make the asset at hand from its current inputs, or find the making that did so before.

        Raises:
            dg.Failure: the stage refused its input or settings; the description says why. Not retried.
        """
        name = context.asset_key.to_user_string()
        partition = context.partition_key if context.has_partition_key else None
        started = time.perf_counter()
        try:
            spec = plan_stage(name, self.compute.over(load_settings()), partition)
            store = ArtifactStore(Settings.model_validate(spec.settings).store_dir)
            print(f"[{name}] started", file=sys.stderr, flush=True)
            if get_stage(name).own_process and find_making(spec, store) is None:
                made = self._run_in_own_process(context, spec)
            else:
                _, made = run_stage(spec, lambda line: _log(context, name, line))
        except UserError as error:
            raise dg.Failure(description=str(error), allow_retries=False) from error
        making = store.making(name, spec.fingerprint, partition)
        if making is None:
            raise dg.Failure(description=f"{name}: the stage process ended without publishing; see its log.")
        seconds = time.perf_counter() - started
        print(
            f"[{name}] {'made' if made else 'found'} {making.version} in {seconds:.1f} s", file=sys.stderr, flush=True
        )
        for check in making.checks:
            if not check["passed"]:
                kind = "failed" if check["blocking"] else "warning"
                print(f"[{name}] {kind}: check {check['name']}: {check['message']}", file=sys.stderr, flush=True)
        return self._result(making, store, made=made)

    def _run_in_own_process(self, context: dg.AssetExecutionContext, spec: StageSpec) -> bool:
        with tempfile.TemporaryDirectory(prefix="smartdevdigest-") as directory:
            spec_path = Path(directory) / f"{spec.stage}.json"
            spec.write(spec_path)
            # A stage that Dagster's step no longer waits for must not go on computing beside its retry.
            environment: Mapping[str, str] = {
                PARENT_VARIABLE: str(os.getpid()),
                # In a file each redraw of a progress bar is more text; a terminal shows the last.
                "TQDM_MININTERVAL": "0.5" if sys.stderr.isatty() else "5",
            }
            try:
                completed = dg.PipesSubprocessClient().run(
                    context=context,
                    command=[sys.executable, "-m", "smartdevdigest_ops.stage", spec.stage, str(spec_path)],
                    env=environment,
                )
            except dg.DagsterError:
                reason = spec_path.with_suffix(ERROR_SUFFIX)
                if reason.is_file():
                    raise UserError(reason.read_text(encoding="utf-8")) from None
                raise
        messages: Any = completed.get_custom_messages()
        return bool(messages and messages[-1]["made"])

    def _result(self, making: Making, store: ArtifactStore, *, made: bool) -> dg.MaterializeResult:
        path = store.open(making.asset, making.version, making.partition).path
        metadata: dict[str, Any] = {
            "path": dg.MetadataValue.path(str(path)),
            "made_now": made,
        }
        # Cards and reports before the numbers they are made of: below twenty metrics nobody would find them.
        for name, note in making.notes.items():
            if name == "report_html":
                metadata[name] = dg.MetadataValue.url((path / str(note)).as_uri())
            else:
                metadata[name] = dg.MetadataValue.md(note) if isinstance(note, str) else dg.MetadataValue.json(note)
        if curve := curve_table(path):
            metadata["training_curve"] = dg.MetadataValue.md(curve)
        metadata |= {key: dg.MetadataValue.float(value) for key, value in making.metrics.items()}
        metadata |= self.compute.readings(making)
        return dg.MaterializeResult(
            metadata=metadata,
            data_version=dg.DataVersion(making.version),
            check_results=[
                dg.AssetCheckResult(
                    check_name=check["name"],
                    passed=check["passed"],
                    severity=dg.AssetCheckSeverity.ERROR if check["blocking"] else dg.AssetCheckSeverity.WARN,
                    description=check["message"],
                    metadata=check["metadata"],
                )
                for check in making.checks
            ],
        )


def _log(context: dg.AssetExecutionContext, name: str, line: str) -> None:
    context.log.info(line)
    print(f"[{name}] {line}", file=sys.stderr, flush=True)
