# corastream in a container: one static binary, no shell, not root.
#
#   docker build -t corastream --build-arg VERSION=$(git describe --tags --always) .
#   docker run -v "$PWD/.cache:/models:ro" -v corastream:/data -p 127.0.0.1:8642:8642 corastream
#
# The language model is not inside (98 MB, and yours may be another one): `make fetch` puts it into .cache, mounted as /models.
# docs/deploy/compose.yaml runs it beside Apache Kafka.
FROM golang:1.26-bookworm AS build
WORKDIR /src
COPY go.mod go.sum ./
RUN go mod download
COPY . .
ARG VERSION=container
RUN CGO_ENABLED=0 go build -trimpath -ldflags "-s -w -X main.version=$VERSION" -o /corastream ./cmd/corastream \
 && mkdir /data

FROM gcr.io/distroless/static-debian12:nonroot
COPY --from=build /corastream /corastream
COPY --from=build --chown=nonroot:nonroot /data /data
COPY --chown=nonroot:nonroot configs/default.yaml /etc/corastream/corastream.yaml
WORKDIR /data
VOLUME /data
EXPOSE 8642
# doctor checks what `up` needs; readiness is GET /readyz.
HEALTHCHECK --interval=30s --timeout=5s --start-period=60s CMD ["/corastream", "healthcheck"]
ENTRYPOINT ["/corastream"]
CMD ["up", "-c", "/etc/corastream/corastream.yaml", "--data", "/data", "--llm", "/models/smollm2-135m-instruct-q4_1.gguf"]
