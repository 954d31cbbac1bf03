# syntax=docker/dockerfile:1
# An image for each role: client, worker (no TensorFlow), worker-gpu, gateway, training.
#   docker build --target worker --tag lmaas-worker .
# Seen: `make image-test`, which builds those of worker and gateway with buildah on a Debian 12 made by
# debootstrap, and runs them with podman; those of client and training likewise, by `scripts/image client
# training`. Not tried yet: Docker, the base that is named below, worker-gpu.

# To pin the base: --build-arg BASE=docker.io/library/python@sha256:...
# Any other base needs Python 3.11 or later, with its module venv, and certificates of authorities.
ARG PYTHON=3.11
ARG BASE=docker.io/library/python:${PYTHON}-slim-bookworm

FROM ${BASE} AS build
RUN python3 -m venv /opt/uv && /opt/uv/bin/pip install --no-cache-dir "uv>=0.5,<1"
# Into one folder, which is all that the next stage takes.
ENV PATH=/opt/uv/bin:$PATH \
    UV_PROJECT_ENVIRONMENT=/opt/lmaas \
    UV_PYTHON_DOWNLOADS=never \
    UV_LINK_MODE=copy \
    UV_COMPILE_BYTECODE=1
WORKDIR /build
COPY pyproject.toml uv.lock ./

# Packages first: they change less often than the code.
FROM build AS build-client
RUN uv sync --frozen --no-cache --no-dev --no-install-project
COPY . .
RUN uv sync --frozen --no-cache --no-dev --no-editable

FROM build AS build-worker
RUN uv sync --frozen --no-cache --no-dev --no-install-project --extra worker --extra tokens \
    --extra images --extra audio --extra security --extra files
COPY . .
RUN uv sync --frozen --no-cache --no-dev --no-editable --extra worker --extra tokens \
    --extra images --extra audio --extra security --extra files

# onnxruntime-gpu has the same files as onnxruntime, which other extras bring.
FROM build AS build-worker-gpu
RUN uv sync --frozen --no-cache --no-dev --no-install-project --extra gpu --extra tokens \
    --extra images --extra audio --extra security --extra files --no-install-package onnxruntime
COPY . .
RUN uv sync --frozen --no-cache --no-dev --no-editable --extra gpu --extra tokens \
    --extra images --extra audio --extra security --extra files --no-install-package onnxruntime

FROM build AS build-gateway
RUN uv sync --frozen --no-cache --no-dev --no-install-project --extra postgresql --extra files
COPY . .
RUN uv sync --frozen --no-cache --no-dev --no-editable --extra postgresql --extra files

FROM build AS build-training
RUN uv sync --frozen --no-cache --no-dev --no-install-project --extra training
COPY . .
RUN uv sync --frozen --no-cache --no-dev --no-editable --extra training

FROM ${BASE} AS run
ENV PATH=/opt/lmaas/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    ORT_DISABLE_TELEMETRY=1 \
    LMAAS_MODELS=/srv/models
RUN useradd --uid 10001 --create-home lmaas && mkdir -p /srv/models
WORKDIR /srv
USER 10001
ENTRYPOINT ["lmaas"]
CMD ["--help"]

FROM run AS client
COPY --from=build-client /opt/lmaas /opt/lmaas

FROM run AS gateway
COPY --from=build-gateway /opt/lmaas /opt/lmaas
# Made here, so that a volume at this place is this user's.
RUN mkdir -p /home/lmaas/.local/state/lmaas/gateway
CMD ["gateway"]

FROM run AS training
COPY --from=build-training /opt/lmaas /opt/lmaas

# For NVIDIA's container runtime (docker run --gpus all), which brings the driver; CUDA and cuDNN are in
# the image. Not tried yet: building it (CUDA is some GB), and a GPU.
FROM run AS worker-gpu
COPY --from=build-worker-gpu /opt/lmaas /opt/lmaas
ENV LMAAS_PROVIDERS=cuda,cpu \
    NVIDIA_VISIBLE_DEVICES=all \
    NVIDIA_DRIVER_CAPABILITIES=compute,utility
CMD ["worker"]

FROM run AS worker
COPY --from=build-worker /opt/lmaas /opt/lmaas
CMD ["worker"]
