#!/usr/bin/env bash
# test_api.sh BIN SCHEMATHESIS: tests the REST API against its OpenAPI description with all checks of schemathesis.
set -euo pipefail
cd "$(dirname "$0")/../.."
BIN=$1 SCHEMATHESIS=$2
# shellcheck source=services.sh
. tools/scripts/services.sh
choose_free_ports
export RUST_LOG=${RUST_LOG:-warn}
export SCHEMATHESIS_HOOKS=tests/api/schemathesis_hooks.py
start_services
"$SCHEMATHESIS" run "http://127.0.0.1:$REST_PORT/openapi.json" --checks all --max-examples "${MAX_EXAMPLES:-60}" \
    --seed "${SEED:-1}" --workers 2 --no-color
