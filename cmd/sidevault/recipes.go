package main

// The recipes of docs/recovery.md, without the variables that they begin with.
const (
	recipeFile = `cp "$data/vault.db" copy.db
bbolt keys copy.db records | grep "^live/.*/$integration/"
slot=$(bbolt keys copy.db records | grep "^live/[^/]*/$integration/$environment/default\$")
id=$(bbolt get --format bytes copy.db records "$slot" | sed -n 's/.*{"id":"\(cred-[^"]*\)","integration".*/\1/p')
record=$(bbolt keys copy.db records | grep "^record/[^/]*/$id/" | tail -n 1)
stored() { bbolt get --format bytes copy.db records "$1" | tail -c +9 | head -c -1; }
for key in $(bbolt keys copy.db records | grep "^keyfile/$environment/"); do
  stored "$key" | age -d -i "$identity"
done > key.txt
stored "$record" | age -d -i key.txt
rm key.txt copy.db
`
	recipeBackup = `age -d -i "$identity" "$backup" > backup.jsonl
id=$(grep "^{\"key\":\"live/[^/]*/$integration/$environment/default\"" backup.jsonl | tail -n 1 |
  sed -n 's/.*{\\"id\\":\\"\(cred-[^\\]*\)\\".*/\1/p')
record=$(grep -o "^{\"key\":\"record/[^/]*/$id/[0-9]*\"" backup.jsonl | sort | tail -n 1)
stored() { grep -F "$1" backup.jsonl | tail -n 1 | sed -n 's/.*"file":"\([^"]*\)".*/\1/p' | base64 -d; }
for key in $(grep -o "^{\"key\":\"keyfile/$environment/[0-9]*\"" backup.jsonl | sort -u); do
  stored "$key" | age -d -i "$identity" || true
done > key.txt
stored "$record" | age -d -i key.txt
rm key.txt backup.jsonl
`
	recipeAll = `age -d -i "$identity" "$backup" > backup.jsonl
stored() { grep -F "$1" backup.jsonl | tail -n 1 | sed -n 's/.*"file":"\([^"]*\)".*/\1/p' | base64 -d; }
for key in $(grep -o '^{"key":"keyfile/[^"]*"' backup.jsonl | grep -v '/@control/' | sort -u); do
  stored "$key" | age -d -i "$identity" || true
done > keys.txt
for record in $(grep -o '^{"key":"record/[^"]*"' backup.jsonl | sort -u); do
  { stored "$record" | age -d -i keys.txt && echo; } || true
done > credentials.jsonl
rm keys.txt backup.jsonl
`
)
