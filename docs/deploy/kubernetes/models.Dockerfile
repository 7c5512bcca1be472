# corastream with the files that it reads, for Kubernetes: the language model, and a checkpoint where there is one. Every pod then has
# them as part of its image, read-only, without a volume or a download, and a new checkpoint is a new tag that rolls out as any image does.
#
#   docker build -f docs/deploy/Dockerfile -t corastream .
#   mkdir -p bin/models && cp .cache/smollm2-135m-instruct-q4_1.gguf bin/models/    # and cora.safetensors, made by `corastream train`
#   docker build -f docs/deploy/kubernetes/models.Dockerfile -t corastream-models:1 bin/models
FROM corastream
COPY --chown=65532:65532 . /models/
