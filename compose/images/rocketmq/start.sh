#!/bin/bash
# start.sh namesrv | broker (with the gRPC proxy inside)
#   NAMESRV    name servers the broker registers with, HOST:PORT[;HOST:PORT]
#   HOST       what remoting clients are told to dial, with PORT; empty: this container's own address
#   GRPC       the proxy's port; in local mode clients are sent to HOST:GRPC, so publish it under the same number
#   EXTRA_CONF further lines of broker.conf; a key given here wins
# A broker takes 10 s to stop. A new consumer group fails through the gRPC proxy until `mqadmin.sh updateSubGroup` made it.
set -euo pipefail
role=$1
mkdir -p "$DATA"
echo "$role" > /tmp/role
common=(-Duser.home="$DATA" -Drocketmq.home.dir="$DATA" -Drmq.logback.configurationFile=/opt/rocketmq/conf/logback.xml ${JVM:-} -cp "/opt/rocketmq/lib/*")
if [ "$role" = namesrv ]; then
  printf '%s\n' "listenPort=$NS_PORT" "kvConfigPath=$DATA/kvConfig.json" "configStorePath=$DATA/namesrv.properties" > "$DATA/namesrv.conf"
  exec java -Xms"${HEAP:-64m}" -Xmx"${HEAP:-64m}" -XX:+UseSerialGC -XX:MaxDirectMemorySize=64m "${common[@]}" \
    org.apache.rocketmq.namesrv.NamesrvStartup -c "$DATA/namesrv.conf"
fi
{
  cat <<CONF
brokerClusterName=DefaultCluster
brokerName=broker-a
brokerId=0
listenPort=$PORT
namesrvAddr=$NAMESRV
storePathRootDir=$DATA/store
storePathCommitLog=$DATA/store/commitlog
flushDiskType=SYNC_FLUSH
autoCreateTopicEnable=false
autoCreateSubscriptionGroup=true
mappedFileSizeCommitLog=134217728
diskMaxUsedSpaceRatio=95
CONF
  [ -z "$HOST" ] || echo "brokerIP1=$HOST"
  printf '%s\n' "${EXTRA_CONF:-}"
} > "$DATA/broker.conf"
cat > "$DATA/rmq-proxy.json" <<CONF
{"rocketMQClusterName":"DefaultCluster","proxyMode":"local","namesrvAddr":"$NAMESRV","brokerConfigPath":"$DATA/broker.conf",
 "grpcServerPort":$GRPC,"remotingListenPort":$REMOTING,"useEndpointPortFromRequest":true${PROXY_JSON:-}}
CONF
exec java -Xms"${HEAP:-256m}" -Xmx"${HEAP:-256m}" -XX:+UseG1GC -XX:MaxDirectMemorySize="${DIRECT:-256m}" "${common[@]}" \
  org.apache.rocketmq.proxy.ProxyStartup -pc "$DATA/rmq-proxy.json" -bc "$DATA/broker.conf" -pm local
