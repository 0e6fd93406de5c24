# syntax=docker/dockerfile:1
# Images from one file. Those that serve have no torch, no weights and no compiler:
#   docker build --target serve-cpu -t stemwright:cpu .      ONNX Runtime and OpenVINO
#   docker build --target serve-gpu -t stemwright:gpu .      ONNX Runtime for CUDA 12
#   docker build --target train -t stemwright:train .        torch; checks, exports and training
# The GPU image stands on the same slim base: CUDA and cuDNN come once, from NVIDIA's wheels. A CUDA base
# image below those wheels would carry the same libraries a second time.
# Started without a command, they serve; any other command of stemwright takes its place:
#   docker run --rm stemwright:cpu worker

FROM python:3.11-slim-bookworm AS base
ENV PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1


FROM base AS build
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 \
    PIP_NO_CACHE_DIR=1 \
    PIP_ROOT_USER_ACTION=ignore
WORKDIR /source
COPY requirements requirements
RUN python -m venv /opt/build \
    && /opt/build/bin/pip install --require-hashes -r requirements/build.txt \
    && python -m venv /opt/stemwright
COPY . .
RUN /opt/build/bin/pip wheel --no-deps --no-build-isolation --wheel-dir /wheels .


FROM build AS install-cpu
RUN /opt/stemwright/bin/pip install --only-binary=:all: --require-hashes -r requirements/serve-cpu.txt \
    && /opt/stemwright/bin/pip install --no-deps /wheels/*.whl \
    && /opt/stemwright/bin/python -m compileall -q /opt/stemwright/lib


FROM build AS install-gpu
RUN /opt/stemwright/bin/pip install --only-binary=:all: --require-hashes -r requirements/serve-gpu.txt \
    && /opt/stemwright/bin/pip install --no-deps /wheels/*.whl \
    && /opt/stemwright/bin/python -m compileall -q /opt/stemwright/lib


# What torch needs is resolved for Linux and Python 3.11 in dev.txt, a file of constraints without hashes.
FROM build AS install-train
RUN set -- /wheels/*.whl \
    && /opt/stemwright/bin/pip install --only-binary=:all: -c requirements/dev.txt "$1[cpu,train]"


FROM base AS serve
# All that is written goes below /models, /cache, /data or /tmp: the root file system may be read-only.
# These are open to any uid, so that `--user` works with a fresh volume.
# NUMBA_CACHE_DIR: librosa's compiled functions are cached beside its sources otherwise.
# Listening beyond loopback, it does not start before there is an API key: `stemwright keys create NAME`.
ENV PATH=/opt/stemwright/bin:$PATH \
    STEMWRIGHT_MODELS=/models \
    STEMWRIGHT_DATA_DIR=/data \
    STEMWRIGHT_HOST=0.0.0.0 \
    STEMWRIGHT_PORT=8000 \
    XDG_CACHE_HOME=/cache \
    NUMBA_CACHE_DIR=/cache/numba \
    HOME=/tmp
RUN groupadd --gid 10001 stemwright \
    && useradd --uid 10001 --gid 10001 --no-create-home --home-dir /tmp --shell /usr/sbin/nologin stemwright \
    && install -d -m 1777 -o 10001 -g 10001 /models /cache /data
WORKDIR /tmp
USER 10001:10001
VOLUME ["/models", "/cache", "/data"]
EXPOSE 8000
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=30s --timeout=5s --start-period=60s --retries=3 \
    CMD ["python", "-c", "import os, urllib.request as r; r.urlopen(f'http://127.0.0.1:{os.environ[\"STEMWRIGHT_PORT\"]}/health/live', timeout=4)"]
ENTRYPOINT ["stemwright"]
CMD ["serve"]


FROM serve AS train
HEALTHCHECK NONE
COPY --from=install-train /opt/stemwright /opt/stemwright
CMD ["--help"]


FROM serve AS serve-gpu
# Read by NVIDIA's container runtime, which brings the driver's libraries.
ENV NVIDIA_VISIBLE_DEVICES=all \
    NVIDIA_DRIVER_CAPABILITIES=compute,utility
COPY --from=install-gpu /opt/stemwright /opt/stemwright


FROM serve AS serve-cpu
COPY --from=install-cpu /opt/stemwright /opt/stemwright
