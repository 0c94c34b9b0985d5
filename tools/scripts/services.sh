# Starts and stops both services. Scripts source it after they set BIN, ENCODER_PORT, ENCODER_HTTP (an address, or empty for
# none), CLASSIFIER_PORT and REST_PORT.
# shellcheck shell=bash

encoder_pid=
classifier_pid=

stop_services() {
    # Only processes started here, by id. Each may have exited already.
    for pid in $classifier_pid $encoder_pid; do
        kill -TERM "$pid" 2>/dev/null || true
    done
    wait
}

free_port() {
    python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])'
}

# For scripts that must not disturb services on the default ports.
choose_free_ports() {
    ENCODER_PORT=$(free_port)
    ENCODER_HTTP=
    CLASSIFIER_PORT=$(free_port)
    REST_PORT=$(free_port)
}

start_services() {
    trap stop_services EXIT
    "$BIN/encoder-svc" serve --listen "127.0.0.1:$ENCODER_PORT" --http-listen "$ENCODER_HTTP" &
    encoder_pid=$!
    "$BIN/encoder-svc" healthcheck --address "http://127.0.0.1:$ENCODER_PORT" --wait 60
    "$BIN/classifier-svc" serve --listen "127.0.0.1:$CLASSIFIER_PORT" --rest-listen "127.0.0.1:$REST_PORT" \
        --encoder "http://127.0.0.1:$ENCODER_PORT" &
    classifier_pid=$!
    "$BIN/classifier-svc" healthcheck --address "http://127.0.0.1:$CLASSIFIER_PORT" --wait 60
}
