#!/usr/bin/env bash
# One Apache Kafka broker (KRaft, one node, no ZooKeeper) for the integration tests, run from Maven's jars.
#
#   kafka.sh start|stop|status|restart DIR
#
# DIR holds everything: libs/ (the jars, fetched once), server.properties, data/, broker.log, broker.pid. `start` prints
# the bootstrap address as its only line on standard output, so a Makefile can say
#   CORASTREAM_KAFKA=$(.ci/kafka/kafka.sh start .cache/kafka) go test ./ingest/
# Needs java 17 or newer and mvn. KAFKA_PORT chooses the port (default 19092; the controller takes the next one).
# KAFKA_USER and KAFKA_PASSWORD add a SASL_PLAINTEXT listener with SCRAM-SHA-512 on the port after that and, where openssl
# is, a SASL_SSL one on the next, whose certificate is DIR/tls.pem.
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
die() { echo "kafka.sh: $*" >&2; exit 2; }
say() { echo "kafka.sh: $*" >&2; }

[ $# -eq 2 ] || die "usage: kafka.sh start|stop|status|restart DIR"
action=$1
mkdir -p "$2"
dir=$(cd "$2" && pwd)
port=${KAFKA_PORT:-19092}
address=127.0.0.1:$port
pidfile=$dir/broker.pid
log=$dir/broker.log

# running: is the process in broker.pid alive and ours? A recycled pid must not be taken for the broker.
running() {
  [ -f "$pidfile" ] || return 1
  local pid; pid=$(cat "$pidfile")
  [ -n "$pid" ] && kill -0 "$pid" 2>/dev/null || return 1
  if [ -r "/proc/$pid/cmdline" ]; then grep -qa 'kafka\.Kafka' "/proc/$pid/cmdline"; else ps -p "$pid" -o command= | grep -q 'kafka\.Kafka'; fi
}

fetch() {
  local want; want=$(cksum < "$here/pom.xml")
  [ -f "$dir/libs.of" ] && [ "$(cat "$dir/libs.of")" = "$want" ] && return
  command -v mvn >/dev/null || die "mvn is not installed; it fetches the broker's jars (fix: install maven)"
  say "fetching the broker's jars (44 MB, once)"
  rm -rf "$dir/libs" "$dir/libs.of"
  mvn -q -B -f "$here/pom.xml" dependency:copy-dependencies -DoutputDirectory="$dir/libs" -DincludeScope=runtime >&2
  echo "$want" > "$dir/libs.of"
}

quiet=-Dorg.slf4j.simpleLogger.defaultLogLevel

# certificate: one for 127.0.0.1, signed by itself; false where openssl is missing.
certificate() {
  command -v openssl >/dev/null || { say "openssl is not installed: no TLS listener"; return 1; }
  [ -s "$dir/store.pem" ] && return
  openssl req -x509 -newkey rsa:2048 -nodes -days 3650 -subj /CN=corastream-test -addext subjectAltName=IP:127.0.0.1 \
    -keyout "$dir/key.pem" -out "$dir/tls.pem" 2>> "$log" || return 1
  openssl pkcs8 -topk8 -nocrypt -in "$dir/key.pem" > "$dir/store.pem" && cat "$dir/tls.pem" >> "$dir/store.pem"
}

configure() {
  local listeners="PLAINTEXT://$address,CONTROLLER://127.0.0.1:$((port + 1))"
  local advertised="PLAINTEXT://$address"
  local map="PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT"
  if [ -n "${KAFKA_USER:-}" ]; then
    listeners+=",SASL://127.0.0.1:$((port + 2))"
    advertised+=",SASL://127.0.0.1:$((port + 2))"
    map+=",SASL:SASL_PLAINTEXT"
    if certificate; then
      listeners+=",SECURE://127.0.0.1:$((port + 3))"
      advertised+=",SECURE://127.0.0.1:$((port + 3))"
      map+=",SECURE:SASL_SSL"
    fi
  fi
  cat > "$dir/server.properties" <<PROPERTIES
process.roles=broker,controller
node.id=1
controller.quorum.voters=1@127.0.0.1:$((port + 1))
listeners=$listeners
advertised.listeners=$advertised
controller.listener.names=CONTROLLER
inter.broker.listener.name=PLAINTEXT
listener.security.protocol.map=$map
sasl.enabled.mechanisms=SCRAM-SHA-512
listener.name.sasl.scram-sha-512.sasl.jaas.config=org.apache.kafka.common.security.scram.ScramLoginModule required;
listener.name.secure.scram-sha-512.sasl.jaas.config=org.apache.kafka.common.security.scram.ScramLoginModule required;
listener.name.secure.ssl.keystore.type=PEM
listener.name.secure.ssl.keystore.location=$dir/store.pem
listener.name.secure.ssl.enabled.protocols=TLSv1.2,TLSv1.3
log.dirs=$dir/data
offsets.topic.replication.factor=1
offsets.topic.num.partitions=4
transaction.state.log.replication.factor=1
transaction.state.log.min.isr=1
group.initial.rebalance.delay.ms=0
auto.create.topics.enable=false
message.max.bytes=20971520
log.cleaner.backoff.ms=500
log.cleaner.dedupe.buffer.size=16777216
PROPERTIES
}

format() {
  [ -f "$dir/data/meta.properties" ] && return
  local id; id=$(java $quiet=error -cp "$dir/libs/*" kafka.tools.StorageTool random-uuid | tail -n 1)
  local users=()
  [ -n "${KAFKA_USER:-}" ] && users=(--add-scram "SCRAM-SHA-512=[name=$KAFKA_USER,password=$KAFKA_PASSWORD]")
  java $quiet=error -cp "$dir/libs/*" kafka.tools.StorageTool format -t "$id" -c "$dir/server.properties" \
    "${users[@]}" >> "$log" 2>&1 || die "formatting $dir/data failed; see $log"
}

start() {
  if running; then say "already running, pid $(cat "$pidfile")"; echo "$address"; return; fi
  command -v java >/dev/null || die "java is not installed (fix: install a JRE, 17 or newer)"
  fetch
  configure
  format
  : > "$log"
  # setsid: Ctrl-C in the terminal that started it must not kill the broker under a running test.
  local own=; command -v setsid >/dev/null && own=setsid
  $own java -Xms64m -Xmx384m -XX:+UseSerialGC -XX:TieredStopAtLevel=1 $quiet=info -cp "$dir/libs/*" \
    kafka.Kafka "$dir/server.properties" >> "$log" 2>&1 < /dev/null &
  echo $! > "$pidfile"
  for _ in $(seq 1 300); do
    if grep -q 'Kafka Server started' "$log"; then say "started on $address, pid $(cat "$pidfile")"; echo "$address"; return; fi
    # Not running(): between fork and exec the process does not look like a broker yet.
    kill -0 "$(cat "$pidfile")" 2>/dev/null || { tail -n 20 "$log" >&2; rm -f "$pidfile"; die "the broker ended; see $log"; }
    sleep 0.2
  done
  tail -n 20 "$log" >&2
  stop
  die "the broker did not start within a minute; see $log"
}

stop() {
  if ! running; then rm -f "$pidfile"; say "not running"; return; fi
  local pid; pid=$(cat "$pidfile")
  kill "$pid"
  for _ in $(seq 1 150); do
    kill -0 "$pid" 2>/dev/null || { rm -f "$pidfile"; say "stopped"; return; }
    sleep 0.2
  done
  say "it did not stop within 30 s; killing it"
  kill -9 "$pid"
  rm -f "$pidfile"
}

case $action in
  start) start ;;
  stop) stop ;;
  restart) stop; start ;;
  status) if running; then echo "$address"; else say "not running"; exit 1; fi ;;
  *) die "unknown action '$action' (fix: start, stop, status or restart)" ;;
esac
