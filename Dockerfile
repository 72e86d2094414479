# An image of one static binary.
#
#   docker build -t adit .
#   docker run --rm adit version
#   docker run --read-only --cap-drop=all --security-opt no-new-privileges \
#       -p 443:443 -v /etc/adit:/etc/adit:ro -v adit-state:/var/lib/adit \
#       adit server --config /etc/adit/server.toml
#
# Port 443 without root: the process runs as user 65532 without capabilities. It can bind 443 if the
# container's network namespace has net.ipv4.ip_unprivileged_port_start=0. Docker 20.10 and newer
# set that by default; podman and Kubernetes need a setting:
#
#   podman run --sysctl net.ipv4.ip_unprivileged_port_start=0 …
#   securityContext: {sysctls: [{name: net.ipv4.ip_unprivileged_port_start, value: "0"}]}
#
# With --network=host, listen on a port from 1024 (listen = [":8443"]) or set the sysctl on the host.
#
# Files under /etc/adit must be readable by user 65532. /var/lib/adit belongs to that user and holds
# a self-signed key or ACME certificates: mount a volume there. /tmp is writable without --read-only
# or with --tmpfs /tmp.
#
# There is no HEALTHCHECK: addresses, TLS names and the site depend on the configuration, and the
# image contains no other program. Let the orchestrator probe the port over TCP or HTTPS.

ARG GO_IMAGE=golang:1.26-bookworm

FROM ${GO_IMAGE} AS build
WORKDIR /src
COPY . .
ARG VERSION=
RUN CGO_ENABLED=0 go build -trimpath -ldflags "-s -w -X main.version=${VERSION}" -o /out/adit ./cmd/adit
# The directories are made here, because an image FROM scratch has no shell.
RUN mkdir -p /out/var/lib/adit /out/tmp && chmod 1777 /out/tmp

FROM scratch
COPY --from=build /etc/ssl/certs/ca-certificates.crt /etc/ssl/certs/ca-certificates.crt
COPY --from=build /out/tmp /tmp
COPY --from=build --chown=65532:65532 /out/var/lib/adit /var/lib/adit
COPY --from=build /out/adit /adit
USER 65532:65532
EXPOSE 443
ENTRYPOINT ["/adit"]
CMD ["help"]
