#!/bin/bash
# Kafka, one KRaft node.
#   PORT       for the docker network, advertised as NAME:PORT
#   HOST_PORT  when set, a second listener on the same number inside and outside, advertised as HOST:HOST_PORT
#   EXTRA_CONF further lines of server.properties; a key given here wins over one below
set -eu
mkdir -p "$DATA"
listeners=PLAINTEXT://0.0.0.0:$PORT,CONTROLLER://127.0.0.1:9093
advertised=PLAINTEXT://$NAME:$PORT
if [ -n "$HOST_PORT" ]; then
  listeners=$listeners,HOST://0.0.0.0:$HOST_PORT advertised=$advertised,HOST://$HOST:$HOST_PORT
fi
# One-replica internal topics, small and without a rebalance delay: quick to start and to join.
# 8 MiB messages: larger than what Pulsar (5 MiB) and RocketMQ (4 MiB) take, so that a source can hold what a target refuses.
cat > "$DATA/server.properties" <<P
process.roles=broker,controller
node.id=1
controller.quorum.voters=1@127.0.0.1:9093
listeners=$listeners
advertised.listeners=$advertised
listener.security.protocol.map=PLAINTEXT:PLAINTEXT,HOST:PLAINTEXT,CONTROLLER:PLAINTEXT
controller.listener.names=CONTROLLER
inter.broker.listener.name=PLAINTEXT
log.dirs=$DATA/log
offsets.topic.replication.factor=1
offsets.topic.num.partitions=4
transaction.state.log.replication.factor=1
transaction.state.log.min.isr=1
transaction.state.log.num.partitions=4
share.coordinator.state.topic.replication.factor=1
share.coordinator.state.topic.min.isr=1
group.initial.rebalance.delay.ms=0
num.partitions=4
auto.create.topics.enable=true
message.max.bytes=8454144
replica.fetch.max.bytes=8454144
socket.request.max.bytes=104857600
${EXTRA_CONF:-}
P
[ -f "$DATA/log/meta.properties" ] || java -XX:TieredStopAtLevel=1 -XX:+UseSerialGC -cp "/opt/kafka/lib/*" \
  kafka.tools.StorageTool format -t 5L6g3nShT-eMCtK--X86sw -c "$DATA/server.properties"
exec java ${HEAP:--Xms256m -Xmx512m} -XX:+UseG1GC ${JVM:-} -Dorg.slf4j.simpleLogger.defaultLogLevel="${LOG:-warn}" \
  -cp "/opt/kafka/lib/*" kafka.Kafka "$DATA/server.properties"
