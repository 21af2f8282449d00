#!/bin/sh
# Makes limits.jar of Limits.java; needs a JDK, and the jars of the embedded stack in the cache.
set -eu
cd "$(dirname "$0")"
jars=${EMBEDSTREAM_CACHE_DIR:-$HOME/.cache/embedstream}/jars/org.apache.kafka
classes=$(mktemp -d)
javac --release 17 -cp "$jars/*" -d "$classes" Limits.java
jar --create --file limits.jar --date 2026-01-01T00:00:00Z -C "$classes" .
rm -r "$classes"
