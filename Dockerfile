# prefline in a container.
#   docker build --target cpu -t prefline:cpu .
#   docker build --target cuda -t prefline:cuda .
# A run directory and the caches are mounted, so that nothing is lost with the container:
#   docker run --rm -v "$PWD/runs:/work/runs" -v prefline-cache:/root/.cache prefline:cpu run --recipe food

FROM python:3.11-slim-bookworm AS source
WORKDIR /work
RUN apt-get update \
    && apt-get install -y --no-install-recommends gcc git make \
    && rm -rf /var/lib/apt/lists/*
COPY Makefile pyproject.toml README.md LICENSE ./
COPY requirements requirements
COPY pipeline pipeline
COPY stages stages
COPY evals evals
COPY schemas schemas
COPY prefline prefline
ENV PATH=/work/.venv/bin:$PATH PYTHONUNBUFFERED=1

FROM source AS cpu
# PyTorch's CPU wheels: the file of pins is the same, and a container without a GPU needs no CUDA.
ARG TORCH_INDEX
RUN PIP_EXTRA_INDEX_URL="$TORCH_INDEX" make install vllm
ENTRYPOINT ["prefline"]
CMD ["--help"]

FROM source AS cuda
# There is no GPU while an image is built: the CUDA build is asked for by name.
RUN make install && .venv/bin/python -m pip install --no-cache-dir -r requirements/vllm-cuda.txt
ENTRYPOINT ["prefline"]
CMD ["--help"]
