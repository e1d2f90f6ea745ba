# The image of rocketmq-bridge, with all its extras. `make image` builds it; docs/releasing.md says what is in it, and why.

# A Debian with Python >= 3.11 and its venv, by tag or digest.
ARG BASE=python:3.13-slim-trixie

FROM ${BASE} AS builder
# hadolint ignore=DL3008
RUN apt-get update \
    # for strip; unpinned, as Debian keeps but one version, and it never reaches the image
    && apt-get install --yes --no-install-recommends binutils \
    && python3 -m venv /builder \
    && python3 -m venv --without-pip /opt/bridge
WORKDIR /src
COPY locks/build.txt locks/run.txt locks/
# Where the package index isn't PyPI, or has a certificate of its own, the secrets say so, and stay out of the image.
# No build isolation: what a source distribution is built with has hashes, too.
RUN --mount=type=secret,id=pip.conf,target=/etc/pip.conf \
    --mount=type=secret,id=ca.crt \
    /builder/bin/pip install --no-cache-dir --no-deps --require-hashes -r locks/build.txt \
    && /builder/bin/pip wheel --no-cache-dir --no-deps --require-hashes --no-build-isolation -w /wheels -r locks/run.txt
COPY LICENSE README.md pyproject.toml ./
COPY bridge bridge
# Gone is what nobody can import: debug symbols, the sources and headers of extensions, tests. The bytecode is never held
# against its source: nothing here changes.
RUN /builder/bin/pip wheel --no-cache-dir --no-deps --no-index --no-build-isolation -w /wheels . \
    && /builder/bin/pip --python /opt/bridge/bin/python install --no-cache-dir --no-deps --no-index --no-compile /wheels/*.whl \
    && find /opt/bridge/lib -name '*.so' -exec strip --strip-unneeded {} + \
    && find /opt/bridge/lib -type f -regex '.*\.\(c\|h\|pxd\|pxi\|pyx\)' -delete \
    && find /opt/bridge/lib -depth -type d -name tests -exec rm -r {} + \
    && python3 -m compileall -q -j 0 --invalidation-mode unchecked-hash /opt/bridge/lib

FROM ${BASE}
# pip leaves the base, where it lies in the official image, or in Debian's own Python. The official image has no bytecode of
# the standard library, and a read-only root can't take any: each start and each health check would compile it anew.
RUN rm -rf /usr/local/bin/pip* /usr/local/lib/python3*/ensurepip /usr/local/lib/python3*/site-packages/pip* \
        /usr/lib/python3*/ensurepip /usr/share/python-wheels \
    && python3 -m compileall -q -j 0 -x '/(idlelib|lib2to3|pydoc_data|test|tests|tkinter|turtledemo)/' \
        "$(python3 -c 'import sysconfig; print(sysconfig.get_path("stdlib"))')"
COPY --from=builder /opt/bridge /opt/bridge
ENV PATH=/opt/bridge/bin:$PATH
USER 10001:10001
EXPOSE 8080
ENTRYPOINT ["bridge"]
CMD ["run"]
# Like a kubelet's liveness probe: a sink's outage doesn't make the bridge unhealthy. It knows the port from the environment.
HEALTHCHECK --interval=30s --timeout=5s --start-period=30s CMD ["python", "-IS", "-c", \
    "import http.client as h, os; c = h.HTTPConnection('localhost', int(os.getenv('BRIDGE_HTTP__PORT') or 8080), timeout=4); c.request('GET', '/livez'); os._exit(c.getresponse().status != 200)"]
ARG VERSION=unknown
ARG REVISION=unknown
LABEL org.opencontainers.image.title="rocketmq-bridge" \
    org.opencontainers.image.description="Messages out of ApsaraMQ for RocketMQ (HTTP protocol) into Kafka, webhooks, or any sink you plug in" \
    org.opencontainers.image.licenses="Apache-2.0" \
    org.opencontainers.image.version="${VERSION}" \
    org.opencontainers.image.revision="${REVISION}"
