#!/usr/bin/env bash
# test_api.sh BIN SCHEMATHESIS: tests the REST APIs of both services against their OpenAPI descriptions with all checks of
# schemathesis.
set -euo pipefail
cd "$(dirname "$0")/../.."
BIN=$1 SCHEMATHESIS=$2
# shellcheck source=services.sh
. tools/scripts/services.sh
choose_free_ports
export RUST_LOG=${RUST_LOG:-warn}
export SCHEMATHESIS_HOOKS=tests/api/schemathesis_hooks.py
start_services

# check ADDRESS EXAMPLES WORKERS
check() {
    "$SCHEMATHESIS" run "http://$1/openapi.json" --checks all --max-examples "${MAX_EXAMPLES:-$2}" --seed "${SEED:-1}" \
        --workers "$3" --no-color
}

check "127.0.0.1:$REST_PORT" 60 2

# Another encoder, with limits that generated lists of long texts reach within seconds.
small=127.0.0.1:$(free_port) small_http=127.0.0.1:$(free_port)
ENCODER_SVC_LIMITS__MAX_BATCH_SIZE=4 ENCODER_SVC_LIMITS__MAX_TEXT_BYTES=200 \
    "$BIN/encoder-svc" serve --listen "$small" --http-listen "$small_http" &
encoder_pid="$encoder_pid $!"
"$BIN/encoder-svc" healthcheck --address "http://$small" --wait 60
# With two workers, schemathesis fails to generate bodies of `infer` now and then.
check "$small_http" 20 1
