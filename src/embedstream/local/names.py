"""The parts of a stack; apart from the rest because the command line needs them when nothing else is installed."""

PARTS = ("postgres", "kafka", "service", "jobmanager", "taskmanager", "job", "console")
"""In the order in which they start; they stop in the reverse order."""

OPTIONAL = ("registry", "connect")
"""The parts that start only where they are asked for."""

ALIASES = {"flink": ("jobmanager", "taskmanager")}
