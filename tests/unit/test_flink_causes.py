import httpx
import pytest

from embedstream.flink import Cluster, Job
from embedstream.flink.causes import innermost
from embedstream.settings import load_settings
from support.flink import RECORDED, recorded

DOCUMENT = "somebody's document"
IN_PYTHON = 'Traceback (most recent call last):\n  File "a.py", line 1, in f\n'
IN_JAVA = ": a.b.IllegalStateException: no group\n\tat a.B.c(B.java:1)\n"
IN_WORKER = f"Error received from SDK harness for instruction 1: {IN_PYTHON}"


def stack_trace(kind):
    (entry,) = recorded(f"exceptions-{kind}.json")["exceptionHistory"]["entries"]
    return entry["stacktrace"]


@pytest.mark.parametrize(
    ("kind", "cause"),
    [
        ("broker", "ConfigException: The specified value of default.api.timeout.ms must be no smaller than"),
        ("executable", 'IOException: Cannot run program "/no/such/python": error=2, No such file or directory'),
        ("module", "ModuleNotFoundError: No module named 'there_is_no_such_module'"),
        ("python", "ValueError in failing_job.py, line 15 of a Python worker"),
        ("restarting", "ValueError in failing_job.py, line 15 of a Python worker"),
    ],
)
def test_why_a_job_failed(kind, cause):
    assert innermost(stack_trace(kind)).startswith(cause)


@pytest.mark.parametrize(
    ("kind", "cause"),
    [
        ("connector", "ValidationException: Could not find any factory for identifier 'nobody-has-this'"),
        ("validation", "CalciteContextException: From line 1, column 25 to line 1, column 38: Column 'no_such_column'"),
        ("client", 'IOException: Cannot run program "/no/such/python": error=2, No such file or directory'),
        ("refused", "ClassNotFoundException: org.apache.flink.connector.kafka.source.KafkaSource"),
        ("unreachable", "AnnotatedConnectException: Connection refused: /127.0.0.1:1"),
    ],
)
def test_why_flink_run_failed(kind, cause):
    assert innermost(recorded(f"run-{kind}.txt")).startswith(cause)


@pytest.mark.parametrize("path", sorted(RECORDED.glob("exceptions-*.json")), ids=lambda path: path.stem)
def test_no_cause_quotes_a_document(path):
    text = recorded(path.name)["exceptionHistory"]["entries"][0]["stacktrace"]
    assert DOCUMENT not in innermost(text)
    assert "\n" not in innermost(text)


def test_the_documents_are_where_they_could_be_quoted():
    assert DOCUMENT in stack_trace("python")


@pytest.mark.parametrize(
    ("text", "cause"),
    [
        ("", "its cause is not known"),
        ("\tat a.B.c(B.java:1)\n", "its cause is not known"),
        ("Please specify JAVA_HOME.\n", "Please specify JAVA_HOME."),
        ("java.lang.NoClassDefFoundError: a/B\n\tat c.D.e(D.java:1)\n\t... 3 more", "NoClassDefFoundError: a/B"),
        (f"WARNING: x\n{IN_PYTHON}KeyError: 'b'\n", "KeyError: 'b'"),
        (f"{IN_PYTHON}py4j.protocol.Py4JJavaError: call failed.\n{IN_JAVA}", "IllegalStateException: no group"),
        ("a.B: outer\nCaused by: a.C$D: " + "x" * 600, "D: " + "x" * 496 + "…"),
        (f"{IN_WORKER}embedstream.errors.ConfigError: set A\n\n\tat a.B.c(B.java:1)", "ConfigError: set A"),
        ("a.B: cannot run /p: error=2\n\tat a.B\nCaused by: a.C: error=2", "B: cannot run /p: error=2"),
        (IN_WORKER, "an exception in a.py, line 1 of a Python worker; Flink's web UI has its message"),
    ],
)  # fmt: skip
def test_other_texts(text, cause):
    assert innermost(text) == cause


def cluster_with(answer):
    return Cluster(load_settings(), httpx.MockTransport(lambda _: httpx.Response(200, json=answer)))


def test_the_latest_failure_counts():
    newest, oldest = (
        recorded(f"exceptions-{kind}.json")["exceptionHistory"]["entries"][0] for kind in ("broker", "executable")
    )
    answer = {"exceptionHistory": {"entries": [oldest | {"timestamp": 1}, newest | {"timestamp": 2}]}}
    assert cluster_with(answer).cause(Job("j", "n", "RUNNING", 0)).startswith("ConfigException")


def test_a_job_that_never_failed():
    assert cluster_with({"exceptionHistory": {"entries": []}}).cause(Job("j", "n", "RUNNING", 0)) == (
        "no exception is known"
    )
