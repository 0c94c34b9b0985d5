#!/usr/bin/env bash
# test_use_large.sh PYTHON FOLDER OVERVIEWS.csv: converts the stand-in of Universal Sentence Encoder large and compares the
# service's vectors with TensorFlow's, for unknown words of every length, sentences, random Unicode, and real overviews if the
# file exists.
set -euo pipefail
cd "$(dirname "$0")/../.."
python=$(realpath -s "$1") folder=$(realpath -m "$2") overviews=$3
export TF_CPP_MIN_LOG_LEVEL=2
rm -rf "$folder"
mkdir -p "$folder/cases"

(cd encoder-svc/export && "$python" -m pytest -q -p no:cacheprovider --confcutdir=tests/use_large tests/use_large)

export PYTHONPATH=encoder-svc
bundle="$folder/cases/use-stand-in-512"
"$python" -m export.use_large.stand_in --saved-model "$folder/saved-model" --bundle "$bundle" 2>"$folder/log" || {
    cat "$folder/log" >&2
    exit 1
}
more=()
if [ -f "$overviews" ]; then
    more=(--overviews "$overviews")
else
    echo "no overviews at $overviews; using made-up texts only"
fi
"$python" -m export.use_large.stand_in_texts --saved-model "$folder/saved-model" --output "$bundle-vectors" \
    --words-a-text 1 --sentences 500 --random 1000 "${more[@]}"
TENSORFLOW_CASES="$folder/cases" ${CARGO:-cargo} test --locked --workspace --test tensorflow -- --nocapture
