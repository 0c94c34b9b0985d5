#!/usr/bin/env bash
# default_model.sh BIN WORK SOURCE...: fits models/default.safetensors and writes its report, and that of the reference preset
# on the first source. A source is FILE[,unknown=LABEL+LABEL][,train-only], as for `trainer fit --vectors`, with a CSV file that
# `trainer prepare` reads. The first is Kaggle's movies_metadata.csv. WORK keeps the vectors, so a second run does not encode again.
set -euo pipefail
cd "$(dirname "$0")/../.."
BIN=$1 WORK=$2
shift 2

files=()
for source in "$@"; do
    file=$source
    # Settings are read from the end, because a path may contain commas.
    while [[ $file == *,train-only || $file =~ ,unknown=[^,]*$ ]]; do file=${file%,*}; done
    if [ ! -e "$file" ]; then
        echo "expected a table of movies at $file, found nothing; set DATA=movies_metadata.csv (Kaggle's The Movies Dataset)" \
            "and, for more tables, MORE='FILE,unknown=Foreign ...'" >&2
        exit 1
    fi
    files+=("$file")
done
mkdir -p "$WORK"

# First, because encoding takes hours and this rejects tables whose groups it cannot find.
python3 tools/scripts/movie_groups.py "${files[@]}" >"$WORK/groups.csv"

# encode TABLE VECTORS [OPTION...]: encodes a table of movies. Finished vectors of the same movies are kept.
encode() {
    if ! "$BIN/trainer" encode --movies "$1" --output "$2" --embedded "${@:3}"; then
        echo "if these vectors are of another encoder or of an earlier version of the table, remove them and run this again:" \
            "rm -rf '$2' '$2.parts'" >&2
        exit 1
    fi
}

names=() vectors=()
for source in "$@"; do
    file=${files[${#names[@]}]}
    path=$(realpath "$file")
    # Files of several folders may have one name.
    checksum=$(cksum <<<"$path")
    name=$WORK/$(basename "$file")-${checksum%% *}
    names+=("$name")
    # Always, because the file may have changed. The published models were fitted with the one movie of this overview.
    "$BIN/trainer" prepare --input "$file" --keep-overview 'No overview yet.' --output "$name.movies.parquet" \
        --report "$name.ingest.json"
    encode "$name.movies.parquet" "$name.title-and-overview.parquet"
    vectors+=(--vectors "$name.title-and-overview.parquet${source#"$file"}")
done

# The reference system's preset on overviews without titles, as a baseline for the default model.
overviews=${names[0]}.overview.parquet
encode "${names[0]}.movies.parquet" "$overviews" --template '{overview}'
"$BIN/trainer" fit --vectors "$overviews" --preset reference --output "$WORK/reference.safetensors"
"$BIN/trainer" report --vectors "$overviews" --model "$WORK/reference.safetensors" --output models/REFERENCE-RECIPE.md

"$BIN/trainer" fit "${vectors[@]}" --output models/default.safetensors
"$BIN/trainer" report "${vectors[@]}" --model models/default.safetensors --output models/REPORT.md \
    --introduction models/introduction.md --groups "$WORK/groups.csv"
