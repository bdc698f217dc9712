# docker build -t mjx_crossq .                          CPU
# docker build -t mjx_crossq --build-arg EXTRA=cuda .   NVIDIA GPU; run it with --gpus=all
# docker run --rm -v "$PWD/runs:/runs" mjx_crossq --task=walker-walk --workdir=/runs/walker --resume
FROM python:3.12-slim

ARG EXTRA=
ENV PIP_NO_CACHE_DIR=1 \
    PYTHONUNBUFFERED=1

# Stock dm_control renders through EGL. Debian removes old versions of packages,
# so that none can be named here.
# hadolint ignore=DL3008
RUN apt-get update \
 && apt-get install --yes --no-install-recommends libegl1 libgl1 libgles2 \
 && rm -rf /var/lib/apt/lists/*

WORKDIR /app
COPY requirements.lock requirements-cuda.lock ./
RUN pip install --require-hashes --only-binary :all: \
      -r "requirements${EXTRA:+-$EXTRA}.lock"
COPY . .
RUN pip install --no-deps --no-build-isolation . \
 && useradd --create-home --uid 1000 trainer \
 && mkdir /runs \
 && chown trainer /runs
USER 1000
VOLUME /runs
ENTRYPOINT ["mjx-crossq-train"]
