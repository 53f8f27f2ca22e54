# The demo on two CPU cores: docker build -t lidar . && docker run -v "$PWD/outputs:/work/outputs" lidar
# With CUDA: docker build --build-arg TORCH_INDEX=https://download.pytorch.org/whl/cu130 -t lidar . && docker run --gpus all lidar
FROM python:3.12-slim
ARG TORCH_INDEX=https://download.pytorch.org/whl/cpu
RUN apt-get update && apt-get install --yes --no-install-recommends libxrender1 libxext6 libexpat1 && rm -rf /var/lib/apt/lists/*
WORKDIR /work
RUN pip install --no-cache-dir --index-url "$TORCH_INDEX" torch
COPY . /src
RUN pip install --no-cache-dir /src && rm -rf /src
ENTRYPOINT ["lidar"]
CMD ["demo"]
