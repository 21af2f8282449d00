"""A Flink session cluster through its REST API and its command line; no PyFlink in this process."""

from embedstream.flink.cluster import Cluster, Finding, Job, Metric, NotStopped, Progress, jobs_named, judge
from embedstream.flink.submission import flink_home, run

__all__ = [
    "Cluster",
    "Finding",
    "Job",
    "Metric",
    "NotStopped",
    "Progress",
    "flink_home",
    "jobs_named",
    "judge",
    "run",
]
