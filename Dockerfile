# syntax=docker/dockerfile:1
# Two images from one file, neither with torch, weights or a compiler:
#   docker build --target serve-cpu -t stemwright:cpu .    ONNX Runtime and OpenVINO
#   docker build --target serve-gpu -t stemwright:gpu .    ONNX Runtime for CUDA 12
# The GPU image stands on the same slim base: CUDA and cuDNN come once, from NVIDIA's wheels. A CUDA base
# image below those wheels would carry the same libraries a second time.

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


FROM base AS serve
# All that is written goes below /models, /cache or /tmp: the root file system may be read-only.
# /models and /cache are open to any uid, so that `--user` works with a fresh volume.
# NUMBA_CACHE_DIR: librosa's compiled functions are cached beside its sources otherwise.
ENV PATH=/opt/stemwright/bin:$PATH \
    STEMWRIGHT_MODELS=/models \
    XDG_CACHE_HOME=/cache \
    NUMBA_CACHE_DIR=/cache/numba \
    HOME=/tmp
RUN groupadd --gid 10001 stemwright \
    && useradd --uid 10001 --gid 10001 --no-create-home --home-dir /tmp --shell /usr/sbin/nologin stemwright \
    && install -d -m 1777 -o 10001 -g 10001 /models /cache
WORKDIR /tmp
USER 10001:10001
VOLUME ["/models", "/cache"]
HEALTHCHECK --interval=300s --timeout=30s --start-period=30s --retries=3 CMD ["stemwright", "doctor"]
ENTRYPOINT ["stemwright"]
CMD ["--help"]


FROM serve AS serve-gpu
# Read by NVIDIA's container runtime, which brings the driver's libraries.
ENV NVIDIA_VISIBLE_DEVICES=all \
    NVIDIA_DRIVER_CAPABILITIES=compute,utility
COPY --from=install-gpu /opt/stemwright /opt/stemwright


FROM serve AS serve-cpu
COPY --from=install-cpu /opt/stemwright /opt/stemwright
