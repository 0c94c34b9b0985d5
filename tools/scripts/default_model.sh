#!/usr/bin/env bash
# default_model.sh BIN DATA WORK: fits models/default.safetensors from DATA (a movies_metadata.csv) and reports on it,
# beside the reference system's recipe. WORK keeps the vectors, so that a second run encodes nothing again.
set -euo pipefail
cd "$(dirname "$0")/../.."
BIN=$1 DATA=$2 WORK=$3

if [ ! -e "$DATA" ]; then
    echo "no data at $DATA: name a movies_metadata.csv with DATA=FILE (Kaggle's The Movies Dataset)" >&2
    exit 1
fi
mkdir -p "$WORK"
"$BIN/trainer" prepare --input "$DATA" --output "$WORK/movies.parquet" --report "$WORK/ingest.json"
"$BIN/trainer" encode --movies "$WORK/movies.parquet" --output "$WORK/title-and-overview.parquet" --embedded
"$BIN/trainer" encode --movies "$WORK/movies.parquet" --output "$WORK/overview.parquet" --template '{overview}' --embedded

# The reference system's own recipe, on overviews alone as it has them: what the default model is held against.
"$BIN/trainer" fit --vectors "$WORK/overview.parquet" --preset reference --output "$WORK/reference.safetensors"
"$BIN/trainer" report --vectors "$WORK/overview.parquet" --model "$WORK/reference.safetensors" \
    --output models/REFERENCE-RECIPE.md

"$BIN/trainer" fit --vectors "$WORK/title-and-overview.parquet" --output models/default.safetensors
"$BIN/trainer" report --vectors "$WORK/title-and-overview.parquet" --model models/default.safetensors \
    --output models/REPORT.md
