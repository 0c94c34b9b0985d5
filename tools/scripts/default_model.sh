#!/usr/bin/env bash
# default_model.sh BIN DATA WORK: fits models/default.safetensors from DATA (a movies_metadata.csv) and writes its report and
# that of the reference preset. WORK keeps the vectors, so a second run does not encode again.
set -euo pipefail
cd "$(dirname "$0")/../.."
BIN=$1 DATA=$2 WORK=$3

if [ ! -e "$DATA" ]; then
    echo "expected Kaggle's movies_metadata.csv (The Movies Dataset) at $DATA, found nothing; set DATA=FILE" >&2
    exit 1
fi
mkdir -p "$WORK"
# The published model was fitted with the one movie of this overview.
"$BIN/trainer" prepare --input "$DATA" --keep-overview 'No overview yet.' --output "$WORK/movies.parquet" \
    --report "$WORK/ingest.json"
"$BIN/trainer" encode --movies "$WORK/movies.parquet" --output "$WORK/title-and-overview.parquet" --embedded
"$BIN/trainer" encode --movies "$WORK/movies.parquet" --output "$WORK/overview.parquet" --template '{overview}' --embedded

# The reference system's preset on overviews without titles, as a baseline for the default model.
"$BIN/trainer" fit --vectors "$WORK/overview.parquet" --preset reference --output "$WORK/reference.safetensors"
"$BIN/trainer" report --vectors "$WORK/overview.parquet" --model "$WORK/reference.safetensors" \
    --output models/REFERENCE-RECIPE.md

"$BIN/trainer" fit --vectors "$WORK/title-and-overview.parquet" --output models/default.safetensors
"$BIN/trainer" report --vectors "$WORK/title-and-overview.parquet" --model models/default.safetensors \
    --output models/REPORT.md
