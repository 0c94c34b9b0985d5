# Prometheus as Debian packages it, for machines that reach no registry of images.
ARG DEBIAN_IMAGE=debian:bookworm-slim
FROM ${DEBIAN_IMAGE}
RUN apt-get update && apt-get install --no-install-recommends -y prometheus && rm -rf /var/lib/apt/lists/* && \
    install -d -o nobody -g nogroup /prometheus
USER 65534:65534
ENTRYPOINT ["/usr/bin/prometheus"]
