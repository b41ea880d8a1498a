"""What the engines have counted, in the words of the statistics extension."""

from __future__ import annotations

from tidegate.engine.meter import Tally
from tidegate.engine.pool import LoadedModel
from tidegate.oip import open_inference_pb2 as pb


def statistics(model: LoadedModel) -> pb.ModelStatistics:
    """What a version has done since it was loaded; rows count as requests, those of streams included."""
    totals = model.engine.meter.totals
    not_apart = pb.StatisticDuration(count=totals.answered.count)
    return pb.ModelStatistics(
        name=model.manifest.name,
        version=model.manifest.version,
        last_inference=int(totals.last_run_s * 1e3),
        inference_count=totals.answered.count,
        execution_count=sum(tally.count for tally in totals.batches.values()),
        inference_stats=pb.InferStatistics(
            success=_duration(totals.answered),
            fail=_duration(totals.refused),
            queue=_duration(totals.queued),
            compute_input=not_apart,
            compute_infer=_duration(totals.run),
            compute_output=not_apart,
        ),
        batch_stats=[_batch(size, tally) for size, tally in sorted(totals.batches.items())],
    )


def _batch(size: int, tally: Tally) -> pb.InferBatchStatistics:
    not_apart = pb.StatisticDuration(count=tally.count)
    return pb.InferBatchStatistics(
        batch_size=size, compute_input=not_apart, compute_infer=_duration(tally), compute_output=not_apart
    )


def _duration(tally: Tally) -> pb.StatisticDuration:
    return pb.StatisticDuration(count=tally.count, ns=int(tally.seconds * 1e9))
