#!/usr/bin/env bash
# default_model.sh BIN WORK SOURCE...: fits models/default.safetensors and writes its report, and that of the reference preset
# on the first source. A source is FILE[,unknown=LABEL+LABEL][,train-only], as for `trainer fit --vectors`, with a file that
# `trainer prepare` reads. The first is Kaggle's movies_metadata.csv. WORK keeps the vectors, so a second run does not encode again.
set -euo pipefail
cd "$(dirname "$0")/../.."
BIN=$1 WORK=$2
shift 2

for source in "$@"; do
    if [ ! -e "${source%%,*}" ]; then
        echo "expected a table of movies at ${source%%,*}, found nothing; set DATA=movies_metadata.csv (Kaggle's The Movies Dataset)" \
            "and, for more tables, MORE='FILE,unknown=Foreign ...'" >&2
        exit 1
    fi
done
mkdir -p "$WORK"

# movies FILE: prints the table of a file's movies, and makes it if it is missing.
movies() {
    local name
    name=$WORK/$(basename "${1%%.*}")
    if [ ! -e "$name.movies.parquet" ]; then
        # The published models were fitted with the one movie of this overview.
        "$BIN/trainer" prepare --input "$1" --keep-overview 'No overview yet.' --output "$name.movies.parquet" \
            --report "$name.ingest.json" >&2
    fi
    echo "$name.movies.parquet"
}

vectors=()
for source in "$@"; do
    table=$(movies "${source%%,*}")
    encoded=${table%.movies.parquet}.title-and-overview.parquet
    "$BIN/trainer" encode --movies "$table" --output "$encoded" --embedded
    settings=${source#"${source%%,*}"}
    vectors+=(--vectors "$encoded$settings")
done

# The reference system's preset on overviews without titles, as a baseline for the default model.
table=$(movies "${1%%,*}")
"$BIN/trainer" encode --movies "$table" --output "$WORK/overview.parquet" --template '{overview}' --embedded
"$BIN/trainer" fit --vectors "$WORK/overview.parquet" --preset reference --output "$WORK/reference.safetensors"
"$BIN/trainer" report --vectors "$WORK/overview.parquet" --model "$WORK/reference.safetensors" \
    --output models/REFERENCE-RECIPE.md

"$BIN/trainer" fit "${vectors[@]}" --output models/default.safetensors
python3 tools/scripts/movie_groups.py "${@%%,*}" >"$WORK/groups.csv"
"$BIN/trainer" report "${vectors[@]}" --model models/default.safetensors --output models/REPORT.md \
    --introduction models/introduction.md --groups "$WORK/groups.csv"
