#!/bin/sh
# dependencies.sh FROM TO: copies only the files of a workspace that determine its dependencies: manifests, the lock file and
# cargo's configuration, with an empty program for each source that cargo expects. Building TO compiles only dependencies, so
# its layer stays valid until a manifest changes.
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
