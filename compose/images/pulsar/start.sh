#!/bin/bash
# Pulsar standalone.
#   PORT       for the docker network: who connects there is told pulsar://NAME:PORT
#   HOST_PORT  when set, a second listener on the same number inside and outside: told pulsar://HOST:HOST_PORT
#   EXTRA_CONF further lines of the broker configuration; a key given here wins
# Memory: with 256 MB of direct memory the broker hangs under load without an exit; 512 MB hold.
set -euo pipefail
mkdir -p "$DATA"
{ cat /opt/pulsar/conf/standalone.conf
  printf '%s\n' "webServicePort=$WEB" "brokerServicePort=$PORT" bindAddress=0.0.0.0
  if [ -n "$HOST_PORT" ]; then
    printf '%s\n' advertisedAddress= internalListenerName=net \
      "advertisedListeners=net:pulsar://$NAME:$PORT,host:pulsar://$HOST:$HOST_PORT" \
      "bindAddresses=host:pulsar://0.0.0.0:$HOST_PORT"
  else
    printf '%s\n' "advertisedAddress=$NAME"
  fi
  printf '%s\n' "${EXTRA_CONF:-}"
} > "$DATA/standalone.conf"
cd "$DATA"
# The bookie's port must stay the same for one data directory.
exec java -cp "/opt/pulsar/lib/*" -Xms64m -Xmx"${HEAP:-384m}" -XX:MaxDirectMemorySize="${DIRECT:-512m}" \
  -XX:+UseG1GC -XX:+ExitOnOutOfMemoryError ${JVM:-} \
  --add-opens java.base/java.io=ALL-UNNAMED \
  --add-opens java.base/java.util.zip=ALL-UNNAMED \
  --add-opens java.base/java.nio=ALL-UNNAMED \
  --add-opens java.base/jdk.internal.misc=ALL-UNNAMED \
  --add-opens java.base/jdk.internal.platform=ALL-UNNAMED \
  --add-opens java.base/sun.net=ALL-UNNAMED \
  --add-opens java.management/sun.management=ALL-UNNAMED \
  -Dio.netty.tryReflectionSetAccessible=true -Djava.net.preferIPv4Stack=true \
  -Dbookkeeper.metadata.bookie.drivers=org.apache.pulsar.metadata.bookkeeper.PulsarMetadataBookieDriver \
  -Dbookkeeper.metadata.client.drivers=org.apache.pulsar.metadata.bookkeeper.PulsarMetadataClientDriver \
  -Dlog4j2.configurationFile=/opt/pulsar/conf/log4j2.xml -Dlog4j.shutdownHookEnabled=false \
  org.apache.pulsar.PulsarStandaloneStarter --config "$DATA/standalone.conf" -nfw -nss \
  --metadata-dir "$DATA/metadata" --bookkeeper-dir "$DATA/bookkeeper" --bookkeeper-port 3181
