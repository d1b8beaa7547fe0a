#!/bin/bash
# health.sh [namesrv|broker]; without a role the one that start.sh was given
# namesrv: answers a request. broker: its gRPC port is open and the name server lists its address.
ask() { # HOST PORT: the cluster as the name server knows it (remoting request 106)
  local h='{"code":106,"flag":0,"language":"JAVA","opaque":1,"version":453,"extFields":{}}' n len
  exec 3<>"/dev/tcp/$1/$2" || return 1
  n=$(printf '%04x' ${#h}) len=$(printf '%04x' $((${#h} + 4)))
  printf "\0\0\x${len:0:2}\x${len:2:2}\0\0\x${n:0:2}\x${n:2:2}%s" "$h" >&3
  len=$(timeout 2 head -c 4 <&3 | od -An -tu1 | { read -r a b c d; echo $((a * 16777216 + b * 65536 + c * 256 + d)); })
  ((len > 0)) && timeout 2 head -c "$len" <&3 | tr -d '\0'
}
if [ "${1:-$(cat /tmp/role)}" = namesrv ]; then ask 127.0.0.1 "${NS_PORT:-9876}" | grep -q brokerAddrTable; exit; fi
(exec 3<>"/dev/tcp/127.0.0.1/${GRPC:-8081}") 2>/dev/null || exit 1
# One of several name servers may be down on purpose.
for ns in ${NAMESRV//;/ }; do
  ask "${ns%:*}" "${ns##*:}" 2>/dev/null | grep -qE ":${PORT:-10911}\"" && exit 0
done
exit 1
