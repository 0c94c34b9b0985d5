#!/usr/bin/env bash
# sbom.sh: writes sbom/PROGRAM.cdx.json (CycloneDX 1.5) for each shipped program: its Rust crates with versions, hashes and
# licences, without build dependencies. ONNX Runtime and the weights are not crates. Their versions and hashes are in
# encoder-svc/export/requirements*.txt and in the bundle's encoder.json.
set -euo pipefail
cd "$(dirname "$0")/../.."
cargo cyclonedx --version >/dev/null 2>&1 || {
    echo "make sbom: needs cargo-cyclonedx (cargo install --locked cargo-cyclonedx)" >&2
    exit 2
}
# A fixed time makes the files reproducible.
SOURCE_DATE_EPOCH=$(git log -1 --format=%ct 2>/dev/null || echo 0)
export SOURCE_DATE_EPOCH
mkdir -p sbom
# The tool writes a file next to every Cargo.toml of the workspace.
trap 'find . -maxdepth 2 -name "*_bin.cdx.json" -not -path "./sbom/*" -delete' EXIT
# With the feature of the images.
cargo cyclonedx --quiet --format json --spec-version 1.5 --describe binaries --no-build-deps \
    --features classifier-svc/kubernetes \
    --target "${TARGET:-x86_64-unknown-linux-gnu}"
for program in encoder-svc classifier-svc trainer; do
    mv "$program/${program}_bin.cdx.json" "sbom/$program.cdx.json"
    echo "sbom/$program.cdx.json: $(grep -c '"purl"' "sbom/$program.cdx.json") components"
done
