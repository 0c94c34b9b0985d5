#!/usr/bin/env bash
# fuzz.sh SECONDS [TARGET…]: builds the fuzz targets (default: all) with libFuzzer and runs each for SECONDS, JOBS=2 at a
# time. A target starts from its seeds, its committed corpus and the inputs that earlier runs found, which stay in
# tools/fuzz/libfuzzer/corpus. Logs go to tools/fuzz/libfuzzer/logs. An input that breaks a promise goes to
# tools/fuzz/libfuzzer/artifacts, and the exit code is 1.
set -euo pipefail
cd "$(dirname "$0")/../.."
seconds=$1
shift
libfuzzer=tools/fuzz/libfuzzer
targets=tools/fuzz/targets

lacks() {
    echo "make fuzz: $1" >&2
    exit 2
}
rustc +nightly --version >/dev/null 2>&1 ||
    lacks "needs a nightly toolchain (rustup toolchain install nightly); \`cargo test -p fuzz-targets\` runs the same targets without one"
cargo fuzz --version >/dev/null 2>&1 || lacks "needs cargo-fuzz (cargo install --locked cargo-fuzz)"
[ -f .runtime/lib/libonnxruntime.so ] || lacks "needs ONNX Runtime (make models)"

# Fuzz the versions that are deployed. cargo adds libFuzzer to this copy.
cp Cargo.lock "$libfuzzer/Cargo.lock"
# The workspace forbids unsafe code. SANITIZER=address checks that of the dependencies, at half the speed.
sanitizer=${SANITIZER:-none}
triple=$(rustc +nightly -vV | sed -n 's/^host: //p')
for target in "${@:-}"; do
    # No name builds all of them.
    cargo +nightly fuzz build --fuzz-dir "$libfuzzer" --sanitizer "$sanitizer" ${target:+"$target"}
done
# The features of the whole workspace, so that the build of the tests is reused.
cargo build --locked --workspace --example seeds
seeds=${CARGO_TARGET_DIR:-target}/debug/examples/seeds
all=$("$seeds")
names=${*:-$(echo "$all" | cut -d' ' -f1)}
mkdir -p "$libfuzzer/logs"

campaign() {
    local target=$1 length
    local found=$libfuzzer/corpus/$target artifacts=$libfuzzer/artifacts/$target/ corpus=$targets/corpus/$target
    local dictionary=$libfuzzer/logs/$target.dict log=$libfuzzer/logs/$target.log
    length=$(echo "$all" | sed -n "s/^$target //p")
    mkdir -p "$found" "$artifacts" "$corpus"
    "$seeds" "$target" "$found" "$dictionary"
    if nice -n 19 "$libfuzzer/target/$triple/release/$target" "$found" "$corpus" \
        -max_total_time="$seconds" -max_len="$length" -dict="$dictionary" -artifact_prefix="$artifacts" \
        -timeout=20 -rss_limit_mb=4096 -print_final_stats=1 >"$log" 2>&1; then
        echo "$target: $(sed -n 's/^stat::number_of_executed_units: *//p' "$log") executions, nothing found"
    else
        echo "$target: FOUND something, see $log and $artifacts" >&2
        return 1
    fi
}

failed=0
for target in $names; do
    while [ "$(jobs -rp | wc -l)" -ge "${JOBS:-2}" ]; do
        wait -n || failed=1
    done
    campaign "$target" &
done
while [ -n "$(jobs -rp)" ]; do wait -n || failed=1; done
# Collect the jobs that ended before the loop above.
for job in $(jobs -p); do wait "$job" || failed=1; done
exit "$failed"
