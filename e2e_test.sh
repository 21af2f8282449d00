#!/bin/sh
# Checks the Docker stack from end to end: a message that goes in is a row with the right vector, an update wins, a
# delete takes, what cannot be stored is a dead letter with its reason, and the numbers close.
# Needs docker and a shell. Exits 0 if everything held, 1 if something did not, 2 if it could not run.
# shellcheck disable=SC2016 # expanded inside of the containers
# shellcheck disable=SC2329 # the functions that `check` is given are called by it
set -u
cd "$(dirname "$0")" || exit 2

usage() {
    cat <<'EOF'
Usage: ./e2e_test.sh [--up] [--timeout SECONDS] [--start-timeout SECONDS]

  --up             start the stack first (docker compose up --build)
  --timeout        how long to wait for each effect of a message (default 60)
  --start-timeout  how long to wait until everything is healthy (default 300)
EOF
}

up=false timeout=60 start_timeout=300
while [ $# -gt 0 ]; do
    case $1 in
        --up) up=true ;;
        --timeout | --start-timeout)
            case ${2:-} in
                '' | *[!0-9]*)
                    echo "e2e_test: $1 needs a number of seconds" >&2
                    exit 2
                    ;;
            esac
            [ "$1" = --timeout ] && timeout=$2 || start_timeout=$2
            shift
            ;;
        -h | --help)
            usage
            exit 0
            ;;
        *)
            echo "e2e_test: unknown option $1" >&2
            usage >&2
            exit 2
            ;;
    esac
    shift
done
docker compose version >/dev/null 2>&1 || {
    echo "e2e_test: docker compose does not answer: install it, or start Docker" >&2
    exit 2
}

failures=0
services="kafka embedding-service pgvector-postgres kafka-ui pgadmin flink-jobmanager flink-taskmanager flink-submit"
run="e2e-$(date +%s)-$$"

# check WHAT SECONDS COMMAND...: tries until the command succeeds, and prints whether it did.
check() {
    what=$1 deadline=$(($(date +%s) + $2))
    shift 2
    until "$@"; do
        if [ "$(date +%s)" -ge "$deadline" ]; then
            echo "FAIL  $what"
            failures=$((failures + 1))
            return 1
        fi
        sleep 1
    done
    echo "ok    $what"
}

finish() {
    if [ "$failures" -gt 0 ]; then
        echo "e2e_test: $failures checks failed"
        exit 1
    fi
    echo "e2e_test: everything held"
    exit 0
}

inside() {
    service=$1
    shift
    docker compose exec -T "$service" "$@" </dev/null 2>/dev/null
}

# setting NAME DEFAULT: what flink-submit was told.
setting() {
    inside flink-submit sh -c "printf %s \"\${$1:-$2}\""
}

is_healthy() {
    containers=$(docker compose ps --quiet "$1" 2>/dev/null)
    [ -n "$containers" ] || return 1
    for container in $containers; do
        [ "$(docker inspect --format '{{.State.Health.Status}}' "$container" 2>/dev/null)" = healthy ] || return 1
    done
}

job_runs() {
    inside flink-submit python -c '
import json, os, sys, urllib.request
name = os.environ.get("FLINK_JOB_NAME") or "embedstream"
with urllib.request.urlopen(os.environ["FLINK_REST_URL"] + "/jobs/overview", timeout=5) as answer:
    states = [job["state"] for job in json.load(answer)["jobs"] if job["name"] == name]
sys.exit(states.count("RUNNING") != 1)'
}

sql() {
    inside pgvector-postgres sh -c 'psql -v ON_ERROR_STOP=1 -U "$POSTGRES_USER" -d "$POSTGRES_DB" -Atc "$1"' sh "$1"
}

# gives EXPECTED SQL: whether the query's answer is the expected one.
gives() {
    [ "$(sql "$2")" = "$1" ]
}

# publish: lines `key|value` from standard input; the value NULL is a delete.
publish() {
    docker compose exec -T kafka kafka-console-producer --bootstrap-server kafka:29092 --topic "$topic" \
        --property parse.key=true --property 'key.separator=|' --property null.marker=NULL >/dev/null 2>&1
}

# The service's own vector of a text, as [0.1,0.2,...].
vector_of() {
    inside embedding-service python -c '
import json, sys, urllib.request
request = urllib.request.Request(
    "http://127.0.0.1:5000/generate", json.dumps({"text": sys.argv[1]}).encode(), {"Content-Type": "application/json"})
with urllib.request.urlopen(request, timeout=30) as answer:
    print(json.dumps(json.load(answer)["embedding"]))' "$1"
}

same_vector() {
    vector=$(vector_of "$text") && [ -n "$vector" ] || return 1
    gives t "SELECT 1 - (embedding::vector <=> '$vector') > 0.9999 FROM $table WHERE id = '$run-new'"
}

dead_letter_has() {
    inside kafka kafka-console-consumer --bootstrap-server kafka:29092 --topic "$dead_letters" --from-beginning \
        --timeout-ms 5000 --property print.headers=true --property print.key=true | grep -F "$run-malformed" | grep -qF "$1"
}

audit_closes() {
    inside flink-submit embedstream audit >/dev/null
}

search_finds() {
    inside flink-submit embedstream search "$1" -k 3 --json | grep -qF "\"$2\""
}

if $up; then
    docker compose up --build --detach || exit 2
fi

for service in $services; do
    check "$service is healthy" "$start_timeout" is_healthy "$service" || start_timeout=0
done
[ "$failures" -eq 0 ] || finish
check "the job runs, once" "$timeout" job_runs || finish

topic=$(setting KAFKA_INPUT_TOPIC text-messages)
dead_letters=$(setting KAFKA_DEAD_LETTER_TOPIC text-messages-dead-letters)
table=$(setting PGVECTOR_TABLE text_message_embeddings)
text="The lighthouse keeper of $run polishes the great lamp before dusk"
check "messages can be published to topic $topic" 0 publish <<EOF
$run-new|{"id": "$run-new", "text": "$text", "metadata": {"run": "$run"}, "source": "e2e"}
$run-update|{"id": "$run-update", "text": "The first version"}
$run-update|{"id": "$run-update", "text": "The second version"}
$run-delete|{"id": "$run-delete", "text": "Soon to be gone"}
$run-delete|NULL
$run-malformed|{"id": "$run-malformed", "text": 42}
EOF

row="FROM $table WHERE id = '$run-new'"
check "a new message is a row with its text" "$timeout" gives "$text" "SELECT text $row"
check "its source and metadata are kept" 0 gives "e2e|$run" "SELECT source, metadata->>'run' $row"
check "its model is the table's" 0 gives t "SELECT (model_name, model_revision) = (SELECT model_name, model_revision FROM ${table}_space) $row"
check "its vector has the table's dimension" 0 gives t "SELECT cardinality(embedding) = (SELECT dimension FROM ${table}_space) $row"
check "its vector is the service's own answer" 0 same_vector
check "an update won" "$timeout" gives "The second version" "SELECT text FROM $table WHERE id = '$run-update'"
check "a delete took" "$timeout" gives "deleted|0" \
    "SELECT state, (SELECT count(*) FROM $table WHERE id = '$run-delete') FROM ${table}_ledger WHERE id = '$run-delete'"
check "a malformed message is a dead letter" "$timeout" dead_letter_has dlq.stage:decode
check "the dead letter says why" 0 dead_letter_has "dlq.error:text_not_a_string"
check "a search by meaning finds the new message" "$timeout" search_finds "someone cleans the light of a tower by the sea" "$run-new"
check "the ids of this run are accounted for: 2 live, 1 deleted" 0 gives "2|1" \
    "SELECT count(*) FILTER (WHERE state = 'live'), count(*) FILTER (WHERE state = 'deleted') FROM ${table}_ledger WHERE id LIKE '$run-%'"
check "the audit closes: the table equals its topic" 0 audit_closes
finish
