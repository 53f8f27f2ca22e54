# The demo on two CPU cores: docker build -t lidar . && docker run -v "$PWD/outputs:/work/outputs" lidar
FROM python:3.12-slim
RUN apt-get update && apt-get install --yes --no-install-recommends libxrender1 libxext6 libexpat1 && rm -rf /var/lib/apt/lists/*
WORKDIR /work
COPY . /src
RUN pip install --no-cache-dir --extra-index-url https://download.pytorch.org/whl/cpu /src && rm -rf /src
ENTRYPOINT ["lidar"]
CMD ["demo"]
