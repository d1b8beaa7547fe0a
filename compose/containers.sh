# Sourced by compose/demo: Compose, and waiting with a deadline, a sign of life and, when it was in vain, somebody's last words.
# shellcheck shell=bash

# What Trestle's API asks for: made once, and kept where only its owner reads it. Compose wants it also to remove what it started.
admin_token() {
  [ -z "${TRESTLE_TOKEN:-}" ] || return 0
  mkdir -p "$cache"
  if [ ! -s "$cache/token" ]; then (umask 077 && od -An -vtx1 -N32 /dev/urandom | tr -d ' \n' > "$cache/token"); fi
  TRESTLE_TOKEN=$(cat "$cache/token")
  export TRESTLE_TOKEN
}

compose() { # COMMAND...
  admin_token
  # (two words, where Compose is docker's subcommand)
  $compose -p "$project" -f compose/compose.yaml $([ "$images" = official ] || echo "-f compose/compose.local.yaml") "$@"
}

begin_waiting() { waiting_since=$SECONDS said=$SECONDS; }

keep_waiting() { # SECONDS SERVICE WHAT: one round of waiting
  local waited=$((SECONDS - waiting_since))
  if ((waited > $1)); then last_words "$2"; fail "still waiting after $waited s $3; the last words of $2 are above"; fi
  if ((SECONDS - said >= 15)); then said=$SECONDS; echo "  waiting $3, $waited s"; fi
  sleep 0.5
}

last_words() { compose logs --tail=15 "$1" >&2 || true; }

container() { # SERVICE: its id
  docker ps -aq --filter "label=com.docker.compose.project=$project" --filter "label=com.docker.compose.service=$1"
}

state() { # SERVICE: running-healthy, running-starting, exited-unhealthy, ...
  docker inspect -f '{{.State.Status}}-{{if .State.Health}}{{.State.Health.Status}}{{end}}' $(container "$1") 2> /dev/null
}

wait_for() { # SERVICE...
  local waiting=("$@") still name now
  while ((${#waiting[@]})); do
    still=()
    for name in "${waiting[@]}"; do
      now=$(state "$name") || true
      case $now in
        running-healthy) echo "  $name is ready after $((SECONDS - waiting_since)) s" ;;
        running-starting | created-*) still+=("$name") ;;
        *) last_words "$name"; fail "$name is ${now:-gone}; its last words are above" ;;
      esac
    done
    waiting=("${still[@]}")
    ((${#waiting[@]} == 0)) || keep_waiting 300 "${waiting[0]}" "for ${waiting[*]}"
  done
}

start() {
  # Mounted into containers that run as other users; a checkout made under a strict umask keeps them out.
  chmod a+r compose/demo.yaml compose/images/*/health.sh
  begin_waiting
  # Compose would wait as well, but not say for whom, nor what it said.
  steps up-first compose up -d --no-build --no-deps kafka pulsar namesrv
  wait_for namesrv
  steps up-rocketmq compose up -d --no-build --no-deps rocketmq
  wait_for kafka pulsar rocketmq
  steps up-trestle compose up -d --no-build trestle
  begin_waiting
  until [[ $(http_get "$TRESTLE_PORT" /readyz | head -n 1) == *" 200 "* ]]; do
    [[ $(state trestle) == running-* ]] || { last_words trestle; fail "Trestle has stopped; its last words are above"; }
    keep_waiting 120 trestle "for Trestle: $(http_get "$TRESTLE_PORT" /readyz | sed '1,/^\r*$/d' | head -n 1)"
  done
  echo "  trestle is ready"
}
