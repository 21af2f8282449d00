#!/bin/sh
# The one program of the image: jobmanager | taskmanager | submit | healthy | any other command.
# Each line `name: value` of FLINK_PROPERTIES becomes an option of the JobManager and of the TaskManager.
set -eu

role=/tmp/role

get() {
    python -c 'import sys, urllib.request; urllib.request.urlopen(sys.argv[1], timeout=4)' "$1"
}

healthy() {
    case $(cat "$role") in
        jobmanager) get http://127.0.0.1:8081/overview ;;
        taskmanager) get http://127.0.0.1:9249/metrics ;;
        submit) test -f /tmp/job-is-running ;;
        *) false ;;
    esac
}

trimmed() {
    printf '%s' "$1" | sed 's/^[[:space:]]*//; s/[[:space:]]*$//'
}

# Runs one of Flink's scripts in the foreground, with the settings of this container as options.
run() {
    script=$1
    shift
    while IFS= read -r line; do
        name=$(trimmed "${line%%:*}")
        case $line in
            *:*) [ "${name#\#}" != "$name" ] || set -- "$@" -D "$name=$(trimmed "${line#*:}")" ;;
        esac
    done <<EOF
${FLINK_PROPERTIES:-}
EOF
    # Logs of containers that are gone; those of today's are followed by `submit`.
    find "$FLINK_LOG_DIR" -name '*.log*' -mtime +7 -delete
    exec "$FLINK_HOME/bin/$script" start-foreground "$@"
}

# What the job refers to by name, of what this container was told, files included.
login() {
    exports=$(embedstream flink-env) || exports=
    eval "$exports"
}

# What the jobs of all pipelines take together, where this container has their file.
slots() {
    listed=$(embedstream pipelines list --json)
    printf '%s' "$listed" | python -c 'import json, sys; print(sum(each["parallelism"] for each in json.load(sys.stdin)))'
}

case ${1:-} in
    healthy) healthy ;;
    jobmanager)
        echo jobmanager >"$role"
        login
        run jobmanager.sh
        ;;
    taskmanager)
        echo taskmanager >"$role"
        login
        if [ -f "${EMBEDSTREAM_FILE:-}" ]; then
            slots=${FLINK_TASK_SLOTS:-$(slots)}
            # Of the memory in config.yaml two slots have what MAX_TEXT_BYTES asks for (limits.py); so does each of these.
            more=$((slots > 2 ? (slots - 2) * 550 : 0))
            run taskmanager.sh -D "taskmanager.numberOfTaskSlots=$slots" \
                -D "taskmanager.memory.process.size=$((1728 + more))m"
        fi
        run taskmanager.sh -D "taskmanager.numberOfTaskSlots=${FLINK_TASK_SLOTS:-${FLINK_PARALLELISM:-2}}"
        ;;
    submit)
        echo submit >"$role"
        login
        rm -f /tmp/job-is-running
        exec embedstream submit --follow --ready-file /tmp/job-is-running --logs "$FLINK_LOG_DIR"
        ;;
    *) exec "$@" ;;
esac
