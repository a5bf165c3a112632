# The image of Lockgate: the host, its five components, the C library, and nothing else.
#
#   docker build .                              compiles everything, for fifteen minutes
#   docker build --build-arg BUILT=prebuilt .   takes target/release/lockgate and
#                                               target/plugins as they are
#
# The stage `chat` is the stand-in for the chat service, for trials.
ARG BUILD_IMAGE=rust:1.95-bookworm
ARG BASE_IMAGE=debian:bookworm-slim
ARG BUILT=source

FROM ${BUILD_IMAGE} AS source
RUN apt-get update && apt-get install -y --no-install-recommends cmake
WORKDIR /source
COPY . .
RUN scripts/build-plugins --out /built/plugins jwt-token-adapter session-validation-normalizer \
        fallback-session-provider websocket-auth-gateway service-boundary-coordinator && \
    cargo build --locked --profile dist -p lockgate && \
    cp target/dist/lockgate /built/

FROM source AS source-chat
RUN cargo build --locked --profile dist -p lockgate-tests --bin lockgate-chat && \
    cp target/dist/lockgate-chat /built/

FROM ${BASE_IMAGE} AS prebuilt
ARG BINARY=target/release/lockgate
ARG PLUGINS=target/plugins
COPY ${BINARY} /built/lockgate
COPY ${PLUGINS} /built/plugins

FROM prebuilt AS prebuilt-chat
ARG CHAT_BINARY=target/release/lockgate-chat
COPY ${CHAT_BINARY} /built/lockgate-chat

FROM ${BUILT} AS built
FROM ${BUILT}-chat AS built-chat

# What the binary needs to run: the loader and the libraries that it names, and the
# certificates of the system, for rediss:// and wss://.
FROM ${BASE_IMAGE} AS files
COPY --from=built /built /built
RUN set -eu; \
    [ -s /etc/ssl/certs/ca-certificates.crt ] || { \
        apt-get update && apt-get install -y --no-install-recommends ca-certificates; }; \
    mkdir -p /root-of-image/usr/bin /root-of-image/usr/share/lockgate /root-of-image/etc/ssl/certs; \
    cd /root-of-image; \
    install -m 0755 /built/lockgate usr/bin/; \
    cp -r /built/plugins usr/share/lockgate/; \
    chmod -R a+rX usr/share/lockgate; \
    cp /etc/ssl/certs/ca-certificates.crt etc/ssl/certs/; \
    cp --parents -L $(ldd /built/lockgate | grep -o '/[^ ]*') .; \
    printf 'lockgate:x:10001:10001::/var/lib/lockgate:/usr/sbin/nologin\n' >etc/passwd; \
    printf 'lockgate:x:10001:\n' >etc/group; \
    mkdir -p /empty

FROM scratch AS lockgate
COPY --from=files /root-of-image /
COPY --from=files --chown=10001:10001 /empty /var/lib/lockgate
ENV LOCKGATE_BIND=0.0.0.0 \
    LOCKGATE_ADMIN=0.0.0.0:8024 \
    LOCKGATE_PLUGINS_DIR=/usr/share/lockgate/plugins \
    LOCKGATE_DATA_DIR=/var/lib/lockgate \
    PATH=/usr/bin
USER 10001:10001
EXPOSE 8024-8029
STOPSIGNAL SIGTERM
ENTRYPOINT ["lockgate"]
CMD ["serve"]

FROM lockgate AS chat
COPY --from=built-chat /built/lockgate-chat /usr/bin/
COPY examples/chat /usr/share/lockgate/chat
ENTRYPOINT ["lockgate-chat"]
CMD ["--listen", "0.0.0.0:8007", "--verify", "http://jwt-token-adapter-service:8025", \
     "--page", "0.0.0.0:8030", "--files", "/usr/share/lockgate/chat"]

# What `docker build .` makes.
FROM lockgate
