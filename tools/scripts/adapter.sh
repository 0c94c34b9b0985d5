#!/usr/bin/env bash
# adapter.sh PYTHON TORCH_PYTHON WORK SOURCE...: goes on training the encoder whose adapter is in models/ on the train movies of
# all sources (FILE[,rows=N][,weight=W][,unknown=LABEL+LABEL], as for `python -m export.adapt --data`; `train-only`, a setting of
# default_model.sh, changes nothing), and writes the new adapter to WORK/minilm-512-adapter.safetensors. An interrupted run
# resumes. EPOCHS=1.5 sets how long; more may be given when resuming.
set -euo pipefail
cd "$(dirname "$0")/../.."
export PYTHONPATH=encoder-svc
BASE=$("$1" -c 'from export.minilm.weights import find_model_folder; print(find_model_folder())')
PYTHON=$2 WORK=$3
shift 3
data=()
for source in "$@"; do
    # Of all sources but the first, adaptation uses only the training movies anyway.
    source=${source/,train-only,/,}
    data+=(--data "${source%,train-only}")
done
mkdir -p "$WORK"
if [ ! -e "$WORK/start/best.pt" ]; then
    "$PYTHON" -m export.adapt from-adapter "${data[@]:0:2}" --base "$BASE" --adapter models/minilm-512-adapter.safetensors --run "$WORK/start"
fi
"$PYTHON" -m export.adapt train "${data[@]}" --base "$BASE" --run "$WORK/run" --start-run "$WORK/start" --init-seed 7 \
    --epochs "${EPOCHS:-1.5}" --batch 48 --learning-rate 1.5e-4 --new-learning-rate 6e-4 --layer-decay 0.9 --word-dropout 0.15 \
    --max-tokens 128 --evaluations 4
"$PYTHON" -m export.adapt export-adapter "${data[@]}" --base "$BASE" --run "$WORK/run" --form delta-int8 \
    --output "$WORK/minilm-512-adapter.safetensors"
