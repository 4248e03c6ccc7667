#!/usr/bin/env bash
# Makes a vault of the format of SIDEVAULT, a program, in the directory OUT.
# usage: make.sh SIDEVAULT OUT
set -euo pipefail
program=$(realpath "$1") && mkdir -p "$2" && out=$(realpath "$2")
work=$(mktemp -d) && trap 'kill "$pid" 2>/dev/null || true; rm -rf "$work"' EXIT
cat >"$out/sidevault.yaml" <<'YAML'
environments:
  - {name: development}
  - {name: preview, parent: development}
  - {name: staging}
  - {name: production, protected: true}
catalog: [catalog.yaml]
plugins:
  programs:
    away: {path: away, sha256: "0000000000000000000000000000000000000000000000000000000000000000"}
YAML
cat >"$out/catalog.yaml" <<'YAML'
integrations:
  - {key: acme, syncers: [{plugin: away, mode: swallow}]}
YAML
cp "$out/sidevault.yaml" "$out/catalog.yaml" "$work" && config=(--config "$work/sidevault.yaml")
sidevault() { "$program" "$@"; }
sidevault init --data-dir "$work/data" "${config[@]}" --admin-key-file "$work/admin.key" >/dev/null
"$program" serve --data-dir "$work/data" "${config[@]}" --listen "unix://$work/s" 2>"$work/log" & pid=$!
until [ -S "$work/s" ]; do kill -0 "$pid" || { cat "$work/log" >&2; exit 1; }; sleep 0.1; done
export SIDEVAULT_ADDR="unix://$work/s" SIDEVAULT_TOKEN_FILE="$work/admin.key"
put() { sidevault set "${@:2}" <<<"$1" >/dev/null; }
put 'for all' salesforce
put 'production 1' salesforce -e production
put 'production 2' salesforce -e production
put 'production 3' salesforce -e production --label team=crm --expires 876000h
put 'second of staging' slack -e staging --name 'näme / 2'
put 'waits for its syncer' acme -e development
put 'was deleted' zoominfo -e staging && sidevault delete zoominfo -e staging >/dev/null
put 's3cret' sftp -e preview --field host=@<(printf sftp.example.com) --field username=@<(printf me) --field password=-
sidevault key create --name reader -e staging --integration salesforce >"$work/reader.key"
sidevault get salesforce -e staging >/dev/null
sidevault rotate environment staging >/dev/null
put 'after a rotation' telegram -e staging
sidevault backup "$out/backup.age" >/dev/null
kill "$pid" && wait "$pid"
mv "$work"/data/{identity.txt,vault.pub} "$work"/*.key "$out" && gzip -9nc "$work/data/vault.db" >"$out/vault.db.gz"
