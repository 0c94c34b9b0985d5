# Starts and ends the pair of services; sourced by demo.sh and up.sh, which set BIN, ENCODER_PORT and CLASSIFIER_PORT.
# shellcheck shell=bash

encoder_pid=
classifier_pid=

stop_services() {
    # Only what was started here, by its id; each may have ended already.
    for pid in $classifier_pid $encoder_pid; do
        kill -TERM "$pid" 2>/dev/null || true
    done
    wait
}

start_services() {
    trap stop_services EXIT
    "$BIN/encoder-svc" serve --listen "127.0.0.1:$ENCODER_PORT" &
    encoder_pid=$!
    "$BIN/encoder-svc" healthcheck --address "http://127.0.0.1:$ENCODER_PORT" --wait 60
    "$BIN/classifier-svc" serve --listen "127.0.0.1:$CLASSIFIER_PORT" --encoder "http://127.0.0.1:$ENCODER_PORT" &
    classifier_pid=$!
    "$BIN/classifier-svc" healthcheck --address "http://127.0.0.1:$CLASSIFIER_PORT" --wait 60
}
