# Sourced by compose/demo: what would stop it, found out before anything starts. Each check adds lines to `problems`.
# shellcheck shell=bash
problems=()

# variable:default:what listens there
ports=(KAFKA_PORT:9092:Kafka PULSAR_PORT:6650:Pulsar PULSAR_WEB_PORT:8080:"Pulsar's REST" ROCKETMQ_PORT:9876:"RocketMQ's name server"
  TRESTLE_PORT:9464:"Trestle's metrics")
# Measured: the five containers at work hold 1.4 GB.
memory_mb=2000

# The listening sockets' inodes that would be in the way of 127.0.0.1:PORT.
listeners() { # PORT
  cat /proc/net/tcp /proc/net/tcp6 2> /dev/null | awk -v port="$(printf '%04X' "$1")" '
    $4 == "0A" { split($2, at, ":"); if (at[2] == port && at[1] ~ /^(0+|0100007F|0000000000000000FFFF00000100007F)$/) print $10 }'
}

owner() { # PORT INODE: who listens, as far as this user may know
  local container pid
  container=$(docker ps --filter "publish=$1" --format '{{.Names}}' 2> /dev/null | head -n 1) || true
  if [ -n "$container" ]; then echo "the container $container"; return; fi
  pid=$(find /proc/[0-9]*/fd -lname "socket:\[$2\]" 2> /dev/null | head -n 1 | cut -d/ -f3) || true
  if [ -n "$pid" ]; then echo "process $pid: $(tr '\0' ' ' < "/proc/$pid/cmdline" | cut -c1-60)"; else echo "a process of another user"; fi
}

check_ports() {
  local entry name what port inode ours seen=" 9091 9093 6649 "
  ours=$(docker ps --filter "label=com.docker.compose.project=$project" --format '{{.Ports}}' 2> /dev/null) || true
  for entry in "${ports[@]}"; do
    IFS=: read -r name port what <<< "$entry"
    port=${!name:-$port}
    if ! [[ $port =~ ^[0-9]{1,5}$ ]] || ((port < 1 || port > 65535)); then problems+=("$name=$port is no port"); continue; fi
    # 9091, 9093 and 6649 are what the brokers use inside their containers.
    if [[ $seen == *" $port "* ]]; then problems+=("$name=$port: another part of the demo has this port"); continue; fi
    seen+="$port "
    [[ $ours != *"127.0.0.1:$port->"* ]] || continue
    inode=$(listeners "$port" | head -n 1)
    [ -z "$inode" ] || problems+=("port $port, which $what is to have, is taken by $(owner "$port" "$inode")
    choose another one:  $name=$((port + 10000 < 65536 ? port + 10000 : port - 10000)) $0")
  done
}

check_rights() {
  if ! command -v apt-get > /dev/null && ((${#to_install[@]})); then
    problems+=("missing and to be installed by hand, as there is no apt-get here: ${to_install[*]}")
  fi
  if docker version > /dev/null 2>&1 || [ "$(id -u)" = 0 ]; then return; fi
  problems+=("no right to install packages or to use docker: run it as root, or as a user who may use sudo, or install docker and join its group")
}

check_memory() {
  local free
  [ -z "$(docker ps -q --filter "label=com.docker.compose.project=$project" 2> /dev/null)" ] || return 0
  free=$(awk '/^MemAvailable:/ { print int($2 / 1024) }' /proc/meminfo)
  ((free >= memory_mb)) || problems+=("$free MB of memory are free, and the brokers need $memory_mb MB")
}

check_disk() {
  local docker_root where device free used seen=
  docker_root=$(docker info -f '{{.DockerRootDir}}' 2> /dev/null) || docker_root=/var/lib/docker
  for where in "$cache" "$docker_root"; do
    while ! [ -d "$where" ]; do where=$(dirname "$where"); done
    read -r device free used < <(df -Pm "$where" | awk 'NR == 2 { print $1, $4, int($5) }')
    [[ $seen != *" $device "* ]] || continue
    seen+=" $device "
    ((free >= disk_mb)) || problems+=("$free MB are free on the disk that holds $where, and $disk_mb MB are needed")
    # Its own limit, and not to be raised.
    ((used < 90)) || problems+=("the disk that holds $where is $used % full: RocketMQ takes no messages from 90 % on")
  done
}
