#!/usr/bin/env bash
# test_api.sh BIN SCHEMATHESIS: tests the REST APIs of both services against their OpenAPI descriptions with all checks of
# schemathesis.
set -euo pipefail
cd "$(dirname "$0")/../.."
BIN=$1 SCHEMATHESIS=$2
# shellcheck source=services.sh
. tools/scripts/services.sh
choose_free_ports
ENCODER_HTTP=127.0.0.1:$(free_port)
export RUST_LOG=${RUST_LOG:-warn}
export SCHEMATHESIS_HOOKS=tests/api/schemathesis_hooks.py
start_services
for address in "127.0.0.1:$REST_PORT" "$ENCODER_HTTP"; do
    "$SCHEMATHESIS" run "http://$address/openapi.json" --checks all --max-examples "${MAX_EXAMPLES:-60}" \
        --seed "${SEED:-1}" --workers 2 --no-color
done
