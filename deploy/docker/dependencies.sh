#!/bin/sh
# dependencies.sh FROM TO: of a workspace, only what decides which dependencies are built, and how: manifests, the lock
# file, cargo's configuration, and an empty program wherever cargo expects a source. Building TO compiles every dependency
# and nothing of ours, so that its layer holds until a manifest changes.
set -eu
cd "$1"
mkdir -p "$2"
if [ -d .cargo ]; then cp -r .cargo "$2"; fi
cp Cargo.lock "$2"
find . -name Cargo.toml -exec cp --parents {} "$2" \;
find . \( -path '*/src/lib.rs' -o -path '*/src/main.rs' -o -path '*/src/bin/*.rs' -o -path '*/build.rs' -o -path '*/benches/*.rs' \) |
    while read -r source; do
        mkdir -p "$2/$(dirname "$source")"
        echo 'fn main() {}' >"$2/$source"
    done
