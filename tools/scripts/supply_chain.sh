#!/usr/bin/env bash
# supply_chain.sh: what we depend on is what we say. The Rust version is checked always; licences, duplicates and sources
# where cargo-deny is installed, unused dependencies where cargo-machete is, known weaknesses where RustSec's database can be
# had. What is not checked is said, and is no failure: compiling these tools takes longer than all of the checks.
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
        skip "known weaknesses (cargo deny check advisories), as RustSec's database cannot be fetched here: $(grep . "$log" | tail -n 1)"
    fi
else
    skip "licences, duplicates, sources and known weaknesses, without cargo-deny (cargo install --locked cargo-deny)"
fi
if cargo machete --version >/dev/null 2>&1; then
    cargo machete
else
    skip "unused dependencies, without cargo-machete (cargo install --locked cargo-machete)"
fi
echo "supply chain: $skipped of 4 parts not checked"
