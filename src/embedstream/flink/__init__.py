"""A Flink session cluster through its REST API and its command line; no PyFlink in this process."""

from embedstream.flink.cluster import Cluster, Finding, Job, Metric, NotStopped, Progress, jobs_named, judge
from embedstream.flink.recorded import differences, job_parameters, recorded_names, settings_of_parameters
from embedstream.flink.submission import flink_home, plan, run

__all__ = [
    "Cluster",
    "Finding",
    "Job",
    "Metric",
    "NotStopped",
    "Progress",
    "differences",
    "flink_home",
    "job_parameters",
    "jobs_named",
    "judge",
    "plan",
    "recorded_names",
    "run",
    "settings_of_parameters",
]
