#!/usr/bin/env bash
# supply_chain.sh: checks the dependencies. The Rust version is always checked. Licences, duplicates and sources need
# cargo-deny, unused dependencies need cargo-machete, and advisories also need RustSec's database. A missing tool is reported
# but is not a failure, because compiling these tools takes longer than all checks.
set -euo pipefail
cd "$(dirname "$0")/../.."
skipped=0
skip() {
    echo "not checked: $1" >&2
    skipped=$((skipped + 1))
}

"${PYTHON:-python3}" tools/scripts/msrv.py
if cargo deny --version >/dev/null 2>&1; then
    cargo deny --locked check --hide-inclusion-graph licenses bans sources
    log=$(mktemp)
    trap 'rm -f "$log"' EXIT
    if timeout 60 cargo deny --locked fetch db >"$log" 2>&1; then
        cargo deny --locked check --disable-fetch --hide-inclusion-graph advisories
    else
        skip "advisories (cargo deny check advisories): RustSec's database cannot be fetched: $(grep . "$log" | tail -n 1)"
    fi
else
    skip "licences, duplicates, sources and advisories: needs cargo-deny (cargo install --locked cargo-deny)"
fi
if cargo machete --version >/dev/null 2>&1; then
    cargo machete
else
    skip "unused dependencies: needs cargo-machete (cargo install --locked cargo-machete)"
fi
echo "supply chain: $skipped of 4 parts not checked"
