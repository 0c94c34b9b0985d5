#!/usr/bin/env bash
# base_images.sh PREFIX: makes the two base images of the Dockerfile without an image registry, from Debian's packages and
# this machine's Rust toolchain:
#   PREFIX/debian:bookworm-slim   a minimal Debian from debootstrap, with this machine's trusted certificates
#   PREFIX/rust:1-bookworm        the same with a C compiler and this machine's Rust
# Existing images stay unchanged. Needs root, debootstrap and rustc. DOCKER names another client.
set -euo pipefail
PREFIX=$1
DOCKER=${DOCKER:-docker}
MIRROR=${DEBIAN_MIRROR:-}

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

exists() {
    "$DOCKER" image inspect "$1" >/dev/null 2>&1
}

debian() {
    local root=$work/debian
    # shellcheck disable=SC2086 # an empty mirror must not become an argument
    debootstrap --variant=minbase --include=ca-certificates bookworm "$root" $MIRROR >"$work/debootstrap.log" 2>&1 || {
        tail -n 20 "$work/debootstrap.log" >&2
        return 1
    }
    # Local certificate authorities, such as a company's proxy, which cargo, pip and apt may need.
    if compgen -G '/usr/local/share/ca-certificates/*.crt' >/dev/null; then
        cp /usr/local/share/ca-certificates/*.crt "$root/usr/local/share/ca-certificates/"
        chroot "$root" update-ca-certificates >/dev/null 2>&1
    fi
    # Like Debian's slim image, without documentation and package lists.
    rm -rf "$root"/var/cache/apt/* "$root"/var/lib/apt/lists/* "$root"/usr/share/{doc,man,info,locale}/*
    tar -C "$root" -c . | "$DOCKER" import --change 'CMD ["bash"]' - "$PREFIX/debian:bookworm-slim" >/dev/null
}

rust() {
    # The folders of the official image, without documentation, which is most of the toolchain.
    local context=$work/rust toolchain
    toolchain=$(rustc --print sysroot)
    mkdir -p "$context/rust"
    cp -r "$toolchain"/{bin,lib} "$context/rust/"
    cat >"$context/Dockerfile" <<END
FROM $PREFIX/debian:bookworm-slim
RUN apt-get update && apt-get install --no-install-recommends -y gcc g++ make libc6-dev && rm -rf /var/lib/apt/lists/*
COPY rust /usr/local/rust
ENV CARGO_HOME=/usr/local/cargo PATH=/usr/local/rust/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
END
    DOCKER_BUILDKIT=1 "$DOCKER" build --quiet --network host --tag "$PREFIX/rust:1-bookworm" "$context" >/dev/null
}

exists "$PREFIX/debian:bookworm-slim" || debian
exists "$PREFIX/rust:1-bookworm" || rust
