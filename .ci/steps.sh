# Runs the steps of .ci/run and .ci/nightly, in the foreground or beside them, and prints the wall time of each at the end.
# shellcheck shell=bash

work=$(mktemp -d)
declare -A beside_pids=()

# step NAME COMMAND...: runs the command, streams its output, and records its wall time and exit status.
step() {
    local name=$1 begin=$SECONDS status=0
    shift
    printf '\n==== %s\n' "$name"
    "$@" || status=$?
    printf '%s %d %d\n' "$name" $((SECONDS - begin)) "$status" >>"$work/times"
    return "$status"
}

# beside LANE FUNCTION: runs the function in the background. Its output is kept until `join LANE` prints it whole.
beside() {
    "$2" >"$work/$1.log" 2>&1 &
    beside_pids[$1]=$!
}

# join LANE: waits for the lane, prints its output, and returns its exit status.
join() {
    local status=0
    wait "${beside_pids[$1]}" || status=$?
    unset "beside_pids[$1]"
    cat "$work/$1.log"
    return "$status"
}

# Waits for lanes that a failure left running, so that nothing outlives this script and no output is lost.
finish() {
    local status=$? lane
    for lane in "${!beside_pids[@]}"; do
        join "$lane" || true
    done
    printf '\n==== wall time\n'
    [ ! -f "$work/times" ] || awk '{
        printf "%-16s %3d:%02d%s\n", $1, $2 / 60, $2 % 60, $3 ? "  FAILED" : ""
    }' "$work/times"
    printf '%-16s %3d:%02d\n' total $((SECONDS / 60)) $((SECONDS % 60))
    rm -rf "$work"
    exit "$status"
}
trap finish EXIT

# install PACKAGE...: installs Debian packages where this is possible. Tests that need one that is missing are skipped.
install() {
    if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
        { apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "$@"; } \
            >/dev/null 2>&1 || echo "could not install: $*; tests that need them are skipped"
    fi
}
