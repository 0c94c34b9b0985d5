#!/usr/bin/env bash
# fuzz.sh SECONDS [TARGET…]: builds the targets named, or all, with libFuzzer and runs them for so long each, JOBS at a
# time (2). Each begins with its seeds, its committed corpus and what earlier runs here found (tools/fuzz/libfuzzer/corpus, not committed).
# Logs in tools/fuzz/libfuzzer/logs. An input that breaks a promise is left in tools/fuzz/libfuzzer/artifacts, and the exit code is 1.
set -euo pipefail
cd "$(dirname "$0")/../.."
seconds=$1
shift

lacks() {
    echo "make fuzz: $1" >&2
    exit 2
}
rustc +nightly --version >/dev/null 2>&1 ||
    lacks "needs a nightly toolchain (rustup toolchain install nightly); \`cargo test -p fuzz-targets\` runs the same targets without one"
cargo fuzz --version >/dev/null 2>&1 || lacks "needs cargo-fuzz (cargo install --locked cargo-fuzz)"
[ -f .runtime/lib/libonnxruntime.so ] || lacks "needs ONNX Runtime (make models)"

# The versions that are shipped, and libFuzzer beside them.
cp Cargo.lock tools/fuzz/libfuzzer/Cargo.lock
# Our code forbids unsafe; SANITIZER=address is there for that of the dependencies, at half the speed.
sanitizer=${SANITIZER:-none}
triple=$(rustc +nightly -vV | sed -n 's/^host: //p')
for target in "${@:-}"; do
    # All of them where none is named.
    cargo +nightly fuzz build --fuzz-dir tools/fuzz/libfuzzer --sanitizer "$sanitizer" ${target:+"$target"}
done
# With the features of the whole workspace, as tests have built it.
cargo build --locked --workspace --example seeds
seeds=${CARGO_TARGET_DIR:-target}/debug/examples/seeds
all=$("$seeds")
targets=${*:-$(echo "$all" | cut -d' ' -f1)}
mkdir -p tools/fuzz/libfuzzer/logs

campaign() {
    local target=$1 found=tools/fuzz/libfuzzer/corpus/$1 artifacts=tools/fuzz/libfuzzer/artifacts/$1/ length
    length=$(echo "$all" | sed -n "s/^$target //p")
    mkdir -p "$found" "$artifacts" "tools/fuzz/targets/corpus/$target"
    "$seeds" "$target" "$found" "tools/fuzz/libfuzzer/logs/$target.dict"
    if nice -n 19 "tools/fuzz/libfuzzer/target/$triple/release/$target" "$found" "tools/fuzz/targets/corpus/$target" \
        -max_total_time="$seconds" -max_len="$length" -dict="tools/fuzz/libfuzzer/logs/$target.dict" -artifact_prefix="$artifacts" \
        -timeout=20 -rss_limit_mb=4096 -print_final_stats=1 >"tools/fuzz/libfuzzer/logs/$target.log" 2>&1; then
        echo "$target: $(sed -n 's/^stat::number_of_executed_units: *//p' "tools/fuzz/libfuzzer/logs/$target.log") executions, nothing found"
    else
        echo "$target: FOUND something, see tools/fuzz/libfuzzer/logs/$target.log and $artifacts" >&2
        return 1
    fi
}

failed=0
for target in $targets; do
    while [ "$(jobs -rp | wc -l)" -ge "${JOBS:-2}" ]; do
        wait -n || failed=1
    done
    campaign "$target" &
done
while [ -n "$(jobs -rp)" ]; do wait -n || failed=1; done
# Those that had ended before.
for job in $(jobs -p); do wait "$job" || failed=1; done
exit "$failed"
