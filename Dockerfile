# The server, without torch, as an unprivileged user, on a root file system that may be read-only.
#
#   docker build --tag tidegate .
#   docker build --tag tidegate:gpu --build-arg RUNTIME=gpu .
#
# docs/operations.md tells how to run it.

FROM python:3.12-slim AS builder

# cpu or gpu. The gpu wheels bring CUDA and cuDNN, so both stand on the same base image; the driver
# comes from the host through the NVIDIA container runtime.
ARG RUNTIME=cpu

WORKDIR /src
RUN python -m venv --without-pip /opt/venv \
 && case "$RUNTIME" in \
      cpu) echo server ;; \
      gpu) echo gpu ;; \
      *) echo "RUNTIME: expected cpu or gpu, got '$RUNTIME'" >&2; exit 1 ;; \
    esac > extra

# The dependencies are a layer of their own: it holds until pyproject.toml or the version changes.
COPY pyproject.toml constraints.txt README.md LICENSE ./
COPY service/tidegate/__init__.py service/tidegate/
RUN pip --python /opt/venv/bin/python install --no-cache-dir -c constraints.txt ".[$(cat extra)]"

COPY service service
RUN pip --python /opt/venv/bin/python install --no-cache-dir --no-deps --force-reinstall .


FROM python:3.12-slim

# The ids are fixed, so that a volume keeps its owner from one image to the next.
RUN groupadd --gid 10001 tidegate \
 && useradd --uid 10001 --gid 10001 --no-create-home --home-dir /var/lib/tidegate \
      --shell /usr/sbin/nologin tidegate \
 && install --directory --owner=10001 --group=10001 --mode=0750 /var/lib/tidegate

COPY --from=builder /opt/venv /opt/venv
COPY models /models

# Inside a container the loopback address is nobody's but the container's own.
ENV PATH=/opt/venv/bin:$PATH \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1 \
    TIDEGATE_GRPC_HOST=0.0.0.0 \
    TIDEGATE_HTTP_HOST=0.0.0.0 \
    TIDEGATE_MODELS=/models \
    TIDEGATE_STORE=sqlite:////var/lib/tidegate/tidegate.db

WORKDIR /var/lib/tidegate
VOLUME /var/lib/tidegate
EXPOSE 8001 8002
USER 10001:10001
STOPSIGNAL SIGTERM

# http.client, because urllib would ask the proxy of an http_proxy variable.
HEALTHCHECK --interval=10s --timeout=3s --start-period=60s --retries=3 \
  CMD ["python", "-I", "-c", "import http.client, os, sys; c = http.client.HTTPConnection('127.0.0.1', int(os.environ.get('TIDEGATE_HTTP_PORT', '8002')), timeout=2); c.request('GET', '/readyz'); sys.exit(c.getresponse().status != 200)"]

ENTRYPOINT ["tidegate"]
CMD ["serve"]

# Last, because these change with every commit and would make every layer below them anew.
ARG VERSION=unknown
ARG REVISION=unknown
LABEL org.opencontainers.image.title="tidegate" \
      org.opencontainers.image.description="Serves LSTM, GRU and RNN models over gRPC, one time step at a time" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.version="$VERSION" \
      org.opencontainers.image.revision="$REVISION"
