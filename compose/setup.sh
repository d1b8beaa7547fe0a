# Sourced by compose/demo, compose/images/build and integration/test: long steps with signs of life, installing what is missing, the
# docker daemon. `install_rust` wants the checkout's root as the working directory.
# shellcheck shell=bash
me=${me:-${0##*/}}
cache=${TRESTLE_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/trestle}
logs=$cache
# Process groups of the steps at work; `stop_steps` ends them.
declare -A at_work=()
dockerd_started=

announce() { printf '== %s\n' "$*"; }

fail() { printf '%s: %s\n' "$me" "$*" >&2; exit 1; }

as_root() { if [ "$(id -u)" = 0 ]; then "$@"; else sudo "$@"; fi; }

# --- long steps ---------------------------------------------------------------------------------------------------------

# Quiet while it works but for a sign of life every 20 s; everything it said when it fails. Not to be called in a condition: there
# `set -e` does not hold inside either.
steps() { # NAME COMMAND...
  local name=$1 log=$logs/$1.log start=$SECONDS pid status=0; shift
  mkdir -p "$logs"
  # A process group of its own: an interrupt of this program can then end all of it, and not only the shell in front of it.
  set -m
  "$@" > "$log" 2>&1 < /dev/null & pid=$!
  set +m
  at_work[$pid]=$name
  # (the sleep must hold neither a lock of the caller nor the pipe that somebody reads)
  ( while sleep 20 > /dev/null 2>&1 9>&-; do
      kill -0 "$pid" 2> /dev/null || exit
      printf '  %s: %d s, %s\n' "$name" $((SECONDS - start)) "$(tail -c 500 "$log" | tr '\r' '\n' | sed '/^[[:space:]]*$/d' | tail -n 1 | cut -c1-100)"
    done ) &
  local ticker=$!
  wait "$pid" || status=$?
  kill "$ticker" 2> /dev/null || true
  wait "$ticker" 2> /dev/null || true
  unset "at_work[$pid]"
  if [ "$status" != 0 ]; then
    cat "$log" >&2
    echo "$me: the step '$name' failed (exit $status); its output is above" >&2
  fi
  return "$status"
}

# For a trap: a step that was interrupted must not go on behind our back.
stop_steps() {
  local pid
  for pid in "${!at_work[@]}"; do
    kill -TERM -- "-$pid" 2> /dev/null || true
    wait "$pid" 2> /dev/null || true
  done
  at_work=()
}

# --- packages -----------------------------------------------------------------------------------------------------------

# Debian's packages that are missing for: build (Trestle itself), audit (integration/audit), images (the brokers' images), docker, compose.
missing_packages() { # KIND...
  local tool kind PATH=$PATH:/usr/sbin:/sbin tools=()
  for kind; do
    case $kind in
      # protoc and cmake build the Pulsar and Kafka clients
      build) tools+=(gcc:gcc g++:g++ make:make cmake:cmake pkg-config:pkg-config protoc:protobuf-compiler curl:curl)
        pkg-config --exists openssl 2> /dev/null || echo libssl-dev
        pkg-config --exists zlib 2> /dev/null || echo zlib1g-dev
        [ -e /etc/ssl/certs/ca-certificates.crt ] || echo ca-certificates ;;
      # Counts instructions.
      counts) tools+=(valgrind:valgrind) ;;
      # Fetches the tools that judge what is not Rust.
      audit) tools+=(python3:python3)
        python3 -m pip --version > /dev/null 2>&1 || echo python3-pip ;;
      images) tools+=(mmdebstrap:mmdebstrap mvn:maven) ;;
      docker) tools+=(iptables:iptables)
        # Older releases have the command in docker.io, newer ones in a package of its own.
        docker version > /dev/null 2>&1 || tools+=(dockerd:docker.io docker:docker-cli) ;;
      compose) compose_command > /dev/null || echo docker-compose ;;
    esac
  done
  # tool:package
  for tool in "${tools[@]}"; do
    command -v "${tool%%:*}" > /dev/null || echo "${tool##*:}"
  done
}

install_packages() { # PACKAGE...
  local package packages=()
  (($#)) || return 0
  command -v apt-get > /dev/null || fail "missing, and no apt-get here to install them: $*"
  echo "  installing $*"
  # Here, in front: no password can be asked for inside a step.
  as_root true || fail "no right to install packages: neither root, nor sudo"
  # What an interrupted run left half installed.
  [ -z "$(dpkg --audit 2> /dev/null)" ] || steps dpkg-configure as_root dpkg --configure -a
  export DEBIAN_FRONTEND=noninteractive
  steps apt-update as_root apt-get update -q
  for package; do
    case $package in
      docker-cli) available docker-cli || continue ;; # it came with docker.io
      docker-compose) ! available docker-compose-v2 || package=docker-compose-v2 ;; # Ubuntu has it beside version 1
    esac
    packages+=("$package")
  done
  steps apt-install as_root apt-get install -y -q --no-install-recommends "${packages[@]}"
}

available() { apt-cache show "$1" > /dev/null 2>&1; }

compose_command() { # prints how Compose is called here
  if docker compose version > /dev/null 2>&1; then echo "docker compose"
  elif docker-compose version > /dev/null 2>&1; then echo docker-compose
  else return 1; fi
}

# --- Rust ---------------------------------------------------------------------------------------------------------------

rust_version() { sed -n 's/^rust-version *= *"\(.*\)".*/\1/p' Cargo.toml | head -n 1; }

enough_rust() { # COMPONENT...: is there a cargo of at least the version that Cargo.toml asks for, with these components?
  local wanted have component
  if [ -f "$HOME/.cargo/env" ] && ! command -v cargo > /dev/null; then . "$HOME/.cargo/env"; fi
  wanted=$(rust_version)
  have=$(cargo --version 2> /dev/null | cut -d' ' -f2) || return 1
  [ "$(printf '%s\n' "$wanted" "$have" | sort -V | head -n 1)" = "$wanted" ] || return 1
  for component; do cargo "$component" --version > /dev/null 2>&1 || return 1; done
}

install_rust() { # COMPONENT...: fmt, clippy
  local component components=()
  if ! enough_rust "$@"; then
    if ! command -v rustup > /dev/null; then
      if command -v apt-get > /dev/null && available rustup; then
        echo "  installing Debian's rustup"
        steps apt-rustup as_root apt-get install -y -q --no-install-recommends rustup
      else
        echo "  installing Rust with the official rustup installer"
        curl -sSf --proto '=https' https://sh.rustup.rs -o "$cache/rustup-init.sh" ||
          fail "no Rust $(rust_version) here, and the rustup installer cannot be fetched"
        steps rustup-init sh "$cache/rustup-init.sh" -y --no-modify-path --profile minimal --default-toolchain none
        export PATH=$HOME/.cargo/bin:$PATH
      fi
    fi
    echo "  installing Rust, stable (Trestle needs $(rust_version))"
    for component; do
      [ "$component" != fmt ] || component=rustfmt
      components+=(-c "$component")
    done
    steps rust-stable rustup toolchain install stable --profile minimal "${components[@]}"
    export RUSTUP_TOOLCHAIN=stable
    enough_rust "$@" || fail "the stable Rust is older than $(rust_version)"
  fi
  echo "  $(rustc --version)"
}

# --- docker -------------------------------------------------------------------------------------------------------------

start_dockerd() {
  export PATH=$PATH:/usr/sbin:/sbin
  if docker version > /dev/null 2>&1; then return 0; fi
  if [ "$(id -u)" != 0 ] && sudo -n docker version > /dev/null 2>&1; then
    fail "a docker daemon runs, but user $(id -un) may not use it: add the user to the group docker"
  fi
  echo "  none answers: starting dockerd, its data in $cache/docker, its log in $cache/dockerd.log"
  mkdir -p "$cache/docker"
  # A pid file that a killed daemon left behind would stop the new one once its number is in use again.
  as_root rm -f "$cache/dockerd.pid"
  as_root setsid dockerd --data-root "$cache/docker" --pidfile "$cache/dockerd.pid" --group "$(id -gn)" \
    > "$cache/dockerd.log" 2>&1 < /dev/null &
  local pid=$! deadline=$((SECONDS + 30))
  dockerd_started=yes
  while ((SECONDS < deadline)) && kill -0 "$pid" 2> /dev/null; do
    if docker version > /dev/null 2>&1; then return 0; fi
    sleep 0.5
  done
  cat "$cache/dockerd.log" >&2
  fail "dockerd does not run, or did not answer within 30 s; its log is above"
}
