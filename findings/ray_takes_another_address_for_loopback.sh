#!/usr/bin/env bash
# ray 2.60.0 on Linux: `--node-ip-address 127.0.0.1` does not keep a cluster on this machine. Ray takes the machine's own
# address in its place, says so in one line ("Local node IP"), and its servers listen on all interfaces.
#
# With RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER=0, a setting named after other systems, the same command listens on the loopback
# interface alone. The cluster below has a token.
#
# Seen: addresses on which control (gcs_server) and raylet listen
#   as it is                                *
#   RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER=0     127.0.0.1
# Exits with 1 once that is no longer so. Needs Linux, and no other Ray on this machine.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/env"
. "$folder/env/bin/activate"
python -m pip install --quiet uv
python -m uv pip install --quiet ray==2.60.0
export RAY_USAGE_STATS_ENABLED=0 RAY_AUTH_MODE=token RAY_AUTH_TOKEN RAY_raylet_start_wait_time_s=120
RAY_AUTH_TOKEN=$(python -c "import secrets; print(secrets.token_hex(32))")
trap 'ray stop --force > "$folder/log" 2>&1 || true; rm -rf "$folder"' EXIT

addresses() {
    ray start --head --num-cpus 1 --node-ip-address 127.0.0.1 --port 6399 --include-dashboard false > "$folder/log" 2>&1
    ss -ltnpH | awk '/gcs_server|raylet/ { sub(/:[0-9]+$/, "", $4); gsub(/[][]|::ffff:/, "", $4); print $4 }' | sort -u
    ray stop --force >> "$folder/log" 2>&1
    sleep 3
}

wide=$(addresses)
narrow=$(RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER=0 addresses)
printf 'as it is %s\nRAY_ENABLE_WINDOWS_OR_OSX_CLUSTER=0 %s\n' "$wide" "$narrow"
[ "$wide" = "*" ] || { echo "it keeps to the address now"; exit 1; }
[ "$narrow" = "127.0.0.1" ] || { echo "the setting does nothing now"; exit 1; }
