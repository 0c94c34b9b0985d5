#!/usr/bin/env bash
# up.sh BIN: runs both services on their default ports until Ctrl-C or until one of them exits.
set -euo pipefail
cd "$(dirname "$0")/../.."
BIN=$1
ENCODER_PORT=50051
ENCODER_HTTP=127.0.0.1:9464
CLASSIFIER_PORT=50052
REST_PORT=8081
# shellcheck source=services.sh
. tools/scripts/services.sh
start_services
cat >&2 <<END
classifier: http://127.0.0.1:$REST_PORT (page and REST), 127.0.0.1:$CLASSIFIER_PORT (gRPC)
encoder:    127.0.0.1:$ENCODER_PORT (gRPC), http://$ENCODER_HTTP (metrics)
Ctrl-C stops both
END

# The terminal also sends Ctrl-C to the services. A second signal would interrupt calls in flight.
trap 'trap - EXIT; wait; exit 0' INT
wait -n "$encoder_pid" "$classifier_pid"
