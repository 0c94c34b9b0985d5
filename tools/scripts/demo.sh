#!/usr/bin/env bash
# demo.sh BIN: starts both services on free ports, classifies a movie over gRPC, prints its genres and stops.
set -euo pipefail
cd "$(dirname "$0")/../.."
BIN=$1

# shellcheck source=services.sh
. tools/scripts/services.sh
choose_free_ports
export RUST_LOG=${RUST_LOG:-warn}
start_services

title='The Last Harbour'
overview='When the crew of a mining ship on the edge of the solar system answers a distress call, they find a colony
where everyone has vanished, and something that hunts them through its flooded tunnels.'
echo
echo "$overview"
echo
"$BIN/classifier-svc" classify --address "http://127.0.0.1:$CLASSIFIER_PORT" --title "$title" --overview "$overview"
