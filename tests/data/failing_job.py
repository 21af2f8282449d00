"""A PyFlink job that fails as its argument says; `record_flink.py` submits it to a real cluster."""

import sys

from pyflink.table import DataTypes, EnvironmentSettings, TableEnvironment
from pyflink.table.udf import udf

DOCUMENT = "a sentence of somebody's document"


@udf(result_type=DataTypes.STRING())
def work(number):
    if KIND == "module":
        import there_is_no_such_module  # noqa: F401, PLC0415
    raise ValueError(f"cannot take {DOCUMENT!r}")


KIND = sys.argv[1]
environment = TableEnvironment.create(EnvironmentSettings.in_streaming_mode())
options = {"pipeline.name": f"fails-{KIND}", "restart-strategy.type": "none", "parallelism.default": "1"}
if KIND == "executable":
    options["python.executable"] = "/no/such/python"
if KIND == "restarting":
    options |= {"restart-strategy.type": "fixed-delay", "restart-strategy.fixed-delay.attempts": "1000"}
for name, value in options.items():
    environment.get_config().set(name, value)
environment.create_temporary_system_function("work", work)
environment.execute_sql("CREATE TEMPORARY TABLE sink (said STRING) WITH ('connector' = 'blackhole')")
if KIND == "connector":
    environment.execute_sql("CREATE TEMPORARY TABLE source (n INT) WITH ('connector' = 'nobody-has-this')")
elif KIND == "broker":
    environment.execute_sql(
        "CREATE TEMPORARY TABLE source (n INT) WITH ('connector' = 'kafka', 'topic' = 'none', 'format' = 'json',"
        " 'properties.group.id' = 'g', 'properties.bootstrap.servers' = '127.0.0.1:1',"
        " 'properties.default.api.timeout.ms' = '2000')"
    )
else:
    environment.execute_sql("CREATE TEMPORARY TABLE source (n INT) WITH ('connector' = 'datagen')")
column = "no_such_column" if KIND == "validation" else "CAST(n AS STRING)" if KIND == "broker" else "work(n)"
environment.execute_sql("INSERT INTO sink SELECT " + column + " FROM source")
