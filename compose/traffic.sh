# Sourced by compose/demo: messages into Kafka, and the check that RocketMQ holds them, by the brokers' own tools.
# shellcheck shell=bash
customers=(alice bob carol dave erin)
each=20
total=$((${#customers[@]} * each))
producer=(/opt/kafka/bin/kafka-console-producer.sh --bootstrap-server kafka:9091 --topic orders
  --reader-property parse.key=true --reader-property key.separator=:)
reader=(sh mqadmin printMsg -n namesrv:9876 -t orders -d true)
# mqadmin prints a message as 15 fields and its bytes
# shellcheck disable=SC2034
shown='sed -n "s/.*queueId=\([0-9]*\).*queueOffset=\([0-9]*\).*BODY: /queue \1 at \2: /p"'

# One line a message, KEY:VALUE; the customers take turns, so that the order of each can be broken on the way.
sample() { # RUN
  local order customer
  for ((order = 1; order <= each; order++)); do
    for customer in "${customers[@]}"; do
      printf '%s:{"run":"%s","customer":"%s","order":%d}\n' "$customer" "$1" "$customer" "$order"
    done
  done
}

send_sample() { sample "$1" | docker exec -i trestle-kafka "${producer[@]}"; }

# The messages of one run in the order in which RocketMQ holds them: customer, order, queue.
arrived() { # RUN
  docker exec trestle-rocketmq "${reader[@]}" |
    sed -nE '/"run":"'"$1"'"/s/.*queueId=([0-9]+).*queueOffset=([0-9]+).*"customer":"([a-z]+)","order":([0-9]+).*/\1 \2 \3 \4/p' |
    sort -n -k1,1 -k2,2 | awk '{ print $3, $4, $1 }'
}

# Reads from `arrived`: how many, how often in vain, and whether each customer's come in order and from one queue.
judge() {
  awk -v customers="${#customers[@]}" -v each="$each" '
    seen[$1, $2]++ { again++; next }
    { count++; if ($2 != last[$1] + 1) disorder = 1; last[$1] = $2 }
    !($1 in queue) { queue[$1] = $3; n++ }
    queue[$1] != $3 { disorder = 1 }
    END { print count + 0, again + 0, (disorder || n != customers) ? "no" : "yes" }'
}

http_get() { # PORT PATH: the answer, headers first
  ( exec 3<> "/dev/tcp/127.0.0.1/$1" && printf 'GET %s HTTP/1.0\r\nHost: localhost\r\n\r\n' "$2" >&3 && timeout 5 cat <&3 ) 2> /dev/null
}

metric() { # NAME [LABEL="VALUE"]: its sum over all series
  http_get "$TRESTLE_PORT" /metrics | awk -v name="$1" -v label="${2:-}" '
    index($1, name) == 1 && substr($1, length(name) + 1, 1) ~ /^[{ ]$/ && (label == "" || index($0, label)) { sum += $NF } END { printf "%d\n", sum }'
}

delivered() { metric trestle_messages_delivered_total 'hop="deliver"'; }
