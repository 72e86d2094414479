# One static binary in an otherwise empty image.
#
#   docker build -t adit .
#   docker run --rm adit version
#   docker run --read-only --cap-drop=all --security-opt no-new-privileges \
#       -p 443:443 -v /etc/adit:/etc/adit:ro -v adit-state:/var/lib/adit \
#       adit server --config /etc/adit/server.toml
#
# Port 443 without root: the process runs as user 65532 with no capability, and binds 443 because
# the container's own network has net.ipv4.ip_unprivileged_port_start=0. Docker (20.10 and newer)
# sets that by itself; podman and Kubernetes need it said:
#
#   podman run --sysctl net.ipv4.ip_unprivileged_port_start=0 …
#   securityContext: {sysctls: [{name: net.ipv4.ip_unprivileged_port_start, value: "0"}]}
#
# With --network=host there is no network of its own to set: listen on a high port there (say
# listen = [":8443"]), or let the host allow it.
#
# Files under /etc/adit have to be readable by user 65532. /var/lib/adit is that user's, for a
# self-signed key or ACME certificates; keep it in a volume. /tmp is only for those who run the
# image without --read-only, or with --tmpfs /tmp.
#
# No HEALTHCHECK: what a healthy answer is depends on the configuration (addresses, TLS names, the
# site), and the image holds no program but adit. An orchestrator probes the port by TCP or HTTPS.

ARG GO_IMAGE=golang:1.26-bookworm

FROM ${GO_IMAGE} AS build
WORKDIR /src
COPY . .
ARG VERSION=
RUN CGO_ENABLED=0 go build -trimpath -ldflags "-s -w -X main.version=${VERSION}" -o /out/adit ./cmd/adit
# An image FROM scratch has no shell to make directories with.
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
