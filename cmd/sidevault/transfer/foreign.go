package transfer

import (
	"strings"

	"github.com/sidevault/sidevault/vault/secret"
)

// HashiCorp Vault's KV version 2, as "vault kv get -format=json PATH" prints a secret,
// or an object of such by path:
//
//	{"request_id": ..., "data": {"data": {"host": ...}, "metadata": {"version": 3, ...}}}

// isSecret reports whether n is what that command prints.
func isSecret(n node) bool {
	data := n.member("data")
	return data.kind == '{' && data.member("metadata").kind == '{' && (data.member("data").kind == '{' || data.member("data").kind == 'n')
}

func readVault(d node, p *problems) (list []Entry) {
	if isSecret(d) {
		return readSecret("", d, p)
	}
	if d.kind != '{' || len(d.members) == 0 {
		p.add(d.line, notVault)
		return nil
	}
	for _, m := range d.members {
		if !isSecret(m.node) {
			p.add(m.line, "%s: "+notVault, m.name)
			continue
		}
		list = append(list, readSecret(m.name, m.node, p)...)
	}
	return list
}

const notVault = "neither what \"vault kv get -format=json\" prints of a KV version 2 secret, nor an object of such by path"

func readSecret(path string, n node, p *problems) []Entry {
	data := n.member("data")
	if data.member("data").kind == 'n' {
		return []Entry{{Line: n.line, Source: path, Skip: "it is deleted in Vault"}}
	}
	fields, ok := readFields(data.member("data"), p)
	if !ok {
		return nil
	}
	return []Entry{record(n.line, path, fields)}
}

// 1Password, as "op item get --format json" prints an item; items may follow each other,
// or be in an array:
//
//	{"id": ..., "title": "SFTP", "category": "SERVER", "fields": [
//	  {"id": "password", "type": "CONCEALED", "purpose": "PASSWORD", "label": "password", "value": ...},
//	  {"id": ..., "section": {"id": ..., "label": "Admin"}, "type": "STRING", "label": "user", "value": ...}]}
//
// A label that several fields have is SECTION/LABEL, as in secret references.

func isItem(n node) bool {
	return n.member("title").kind == '"' && n.member("category").kind == '"' && n.member("id").kind == '"'
}

func readOnePassword(d node, p *problems) (list []Entry) {
	items := []node{d}
	if d.kind == '[' {
		items = d.items
	}
	for _, n := range items {
		if !isItem(n) {
			p.add(n.line, "not what \"op item get --format json\" prints")
			continue
		}
		list = append(list, readItem(n, p))
	}
	return list
}

// concealed is what the command prints in the place of a value that it keeps back.
const concealed = "[use 'op item get"

func readItem(n node, p *problems) Entry {
	title := n.member("title").string()
	if n.member("fields").kind != '[' {
		return Entry{Line: n.line, Source: title, Skip: "it has no fields: op item list --format json | op item get - --format json --reveal prints them"}
	}
	fields, labels := map[string]secret.Value{}, map[string]int{}
	for _, f := range n.member("fields").items {
		labels[fieldLabel(f)]++
	}
	for _, f := range n.member("fields").items {
		label, v := fieldLabel(f), f.member(ValueField)
		if v.kind != '"' || v.text.Len() == 0 || isNote(f) {
			continue
		}
		if section := f.member("section").member("label").string(); section != "" && labels[label] > 1 {
			label = section + "/" + label
		}
		if strings.HasPrefix(v.text.Reveal(), concealed) {
			p.add(f.line, "the value of %q in %q is concealed: add --reveal to op item get", label, title)
			continue
		}
		if _, twice := fields[label]; twice {
			p.add(f.line, "%q has two fields %q: rename one", title, label)
			continue
		}
		fields[label] = v.text
	}
	return record(n.line, title, alone(fields))
}

// isNote reports whether a field is nothing that a program authenticates with. The
// command calls one-time passwords OTP, the Connect server TOTP.
func isNote(f node) bool {
	kind := f.member("type").string()
	return kind == "OTP" || kind == "TOTP" || f.member("purpose").string() == "NOTES" || f.member("id").string() == "notesPlain"
}

func fieldLabel(f node) string {
	if label := f.member("label").string(); label != "" {
		return label
	}
	return f.member("id").string()
}

// alone takes what 1Password calls the secret of an item without other fields for the
// credential as one string.
func alone(fields map[string]secret.Value) map[string]secret.Value {
	for _, label := range []string{"password", "credential"} {
		if v, ok := fields[label]; ok && len(fields) == 1 {
			return map[string]secret.Value{ValueField: v}
		}
	}
	return fields
}

// Doppler, as "doppler secrets download --no-file --format json" prints secrets, or
// "doppler secrets --json":
//
//	{"OPENAI_API_KEY": "sk-...", "DOPPLER_CONFIG": "prd", ...}
//	{"OPENAI_API_KEY": {"computed": "sk-...", "note": ""}, ...}
//
// Its API answers with the latter below "secrets".

// own are the variables that Doppler adds of itself.
func own(name string) bool {
	return name == "DOPPLER_CONFIG" || name == "DOPPLER_ENVIRONMENT" || name == "DOPPLER_PROJECT"
}

func isDoppler(n node) bool {
	n = answered(n)
	for _, m := range n.members {
		if own(m.name) || m.kind == '{' && m.has("computed") {
			return true
		}
	}
	return false
}

// answered returns the secrets of what the API answers, and anything else as it is.
func answered(n node) node {
	secrets := n.member("secrets")
	for _, m := range secrets.members {
		if m.has("computed") {
			return secrets
		}
	}
	return n
}

func (n node) has(name string) bool { return n.member(name).kind != 0 }

func readDoppler(d node, p *problems) (list []Entry) {
	d = answered(d)
	if d.kind != '{' {
		p.add(d.line, "not what \"doppler secrets download --no-file --format json\" prints")
		return nil
	}
	for _, m := range d.members {
		v := m.node
		if m.kind == '{' && m.has("computed") {
			v = m.member("computed")
		}
		switch {
		case own(m.name):
			list = append(list, Entry{Line: m.line, Source: m.name, Skip: "it is Doppler's own"})
		case v.kind == 'n':
			list = append(list, Entry{Line: m.line, Source: m.name, Skip: "Doppler keeps its value back: use a service token"})
		case v.scalar():
			list = append(list, variable(m.line, m.name, v.text))
		default:
			p.add(m.line, "%s is not a secret as Doppler prints it", m.name)
		}
	}
	return list
}
