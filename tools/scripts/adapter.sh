#!/usr/bin/env bash
# adapter.sh PYTHON TORCH_PYTHON WORK SOURCE...: makes an adapter from the one in models/ and the train movies of all sources
# (FILE[,rows=N][,weight=W][,unknown=LABEL+LABEL], as for `python -m export.adapt --data`; `train-only`, a setting of
# default_model.sh, changes nothing), and writes it into WORK. An interrupted run resumes. EPOCHS sets how long; more may be given
# when resuming.
#   by default        trains on, into minilm-512-adapter.safetensors
#   MPNET=FOLDER      first fine-tunes all-mpnet-base-v2, whose model.safetensors is in FOLDER, for TEACHER_EPOCHS=0.7, and then
#                     teaches the encoder its outputs
#   LAYERS=0,2,5      teaches an encoder of these layers the outputs of the one in models/, into minilm-512-fast-adapter.safetensors
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
# Matrix products in bfloat16 are three times as fast where the processor has them.
bfloat16=$(grep -qwE 'avx512_bf16|amx_bf16' /proc/cpuinfo && echo 1 || echo 0)
adapt() { "$PYTHON" -m export.adapt "$1" "${data[@]}" --base "$BASE" "${@:2}"; }

if [ ! -e "$WORK/start/best.pt" ]; then
    "$PYTHON" -m export.adapt from-adapter "${data[@]:0:2}" --base "$BASE" --adapter models/minilm-512-adapter.safetensors --run "$WORK/start"
fi
if [ -n "${LAYERS:-}" ]; then
    name=minilm-512-fast run=$WORK/fast
    adapt compress --teacher "$WORK/start" --which best --run "$run" --layers "$LAYERS" --epochs "${EPOCHS:-1}" \
        --learning-rate 3e-4 --ema 0.998 --word-dropout 0.15 --bfloat16 "$bfloat16"
elif [ -n "${MPNET:-}" ]; then
    name=minilm-512 run=$WORK/taught
    adapt train --mpnet "$MPNET" --architecture mpnet --run "$WORK/mpnet" --frozen-layers 4 --epochs "${TEACHER_EPOCHS:-0.7}" \
        --init-seed 7 --batch 48 --learning-rate 8e-5 --new-learning-rate 1e-3 --layer-decay 0.9 --warmup 0.08 \
        --word-dropout 0.12 --dropout 0 --head-dropout 0.2 --max-tokens 128 --ema 0.995 --bfloat16 "$bfloat16"
    adapt compress --mpnet "$MPNET" --teacher "$WORK/mpnet" --student "$WORK/start" --which last --run "$run" \
        --layers 0,1,2,3,4,5 --epochs "${EPOCHS:-0.8}" --learning-rate 1.5e-4 --ema 0.997 --word-dropout 0.12 --bfloat16 "$bfloat16"
else
    name=minilm-512 run=$WORK/run
    adapt train --run "$run" --start-run "$WORK/start" --init-seed 7 --epochs "${EPOCHS:-1.5}" --batch 48 \
        --learning-rate 1.5e-4 --new-learning-rate 6e-4 --layer-decay 0.9 --word-dropout 0.15 --max-tokens 128 --evaluations 4 \
        --bfloat16 "$bfloat16"
fi
adapt export-adapter --run "$run" --which last --form delta-int8 --output "$WORK/$name-adapter.safetensors"
