package transfer

import (
	"strings"
	"time"

	"github.com/sidevault/sidevault/vault/secret"
)

// JSON is what an export writes, an array of credentials (see Record), or an object by
// name: of variables, or of integrations with their fields.
//
//	{"OPENAI_API_KEY": "sk-...", "salesforce": "one opaque value",
//	 "sftp": {"host": "sftp.example.com", "username": "me"}}

func readJSON(d node, p *problems) (list []Entry) {
	switch d.kind {
	case '[':
		for _, n := range d.items {
			if e, ok := readRecord(n, p); ok {
				list = append(list, e)
			}
		}
	case '{':
		for _, m := range d.members {
			list = append(list, readMember(m, p)...)
		}
	default:
		p.add(d.line, "neither an array of credentials nor an object by name")
	}
	return list
}

func readMember(m member, p *problems) []Entry {
	switch {
	case m.kind == 'n':
		return []Entry{{Line: m.line, Source: m.name, Skip: "it is null"}}
	case m.scalar():
		return []Entry{variable(m.line, m.name, m.text)}
	}
	fields, ok := readFields(m.node, p)
	if !ok {
		return nil
	}
	return []Entry{record(m.line, m.name, fields)}
}

// record is the entry of a thing with fields.
func record(line int, name string, fields map[string]secret.Value) Entry {
	e := Entry{Line: line, Source: name, Fields: fields}
	if len(fields) == 0 {
		e.Skip = "it has no fields with a value"
	}
	return e
}

// readFields reads an object of scalars. Empty ones and nulls are not fields.
func readFields(n node, p *problems) (map[string]secret.Value, bool) {
	if n.kind != '{' {
		p.add(n.line, "an object of strings is expected")
		return nil, false
	}
	fields := map[string]secret.Value{}
	for _, m := range n.members {
		switch {
		case m.kind == 'n' || m.kind == '"' && m.text.Len() == 0:
		case m.scalar():
			fields[m.name] = m.text
		default:
			p.add(m.line, "the field %q is not a string", m.name)
			return nil, false
		}
	}
	return fields, true
}

// readRecord reads a credential of an export.
func readRecord(n node, p *problems) (e Entry, ok bool) {
	e = Entry{Line: n.line}
	if n.kind != '{' {
		p.add(n.line, "a credential is an object, as in {\"integrationId\": ..., \"environment\": ..., \"value\": ...}")
		return e, false
	}
	ok = true
	for _, m := range n.members {
		if wrong := e.member(m, p); wrong != "" {
			p.add(m.line, "%s", wrong)
			ok = false
		}
	}
	if ok && e.Integration == "" {
		p.add(n.line, "integrationId is missing")
		ok = false
	}
	if e.Source = e.Integration; ok && len(e.Fields) == 0 {
		e.Skip = "it has no value: it was exported without --reveal"
	}
	return e, ok
}

// member takes one member of a credential, and returns what is wrong with it.
func (e *Entry) member(m member, p *problems) (wrong string) {
	switch m.name {
	case "id", "credentialName", "status", "version", "createdAt", "createdBy", "updatedAt", "updatedBy", "lastReadAt":
	case "integrationId", "integration":
		e.Integration = m.string()
	case "environment":
		e.Scoped = true
		if m.kind != 'n' {
			name := m.string()
			e.Environment = &name
		}
	case "name":
		e.Name = m.string()
	case "authType":
		e.AuthType = m.string()
	case "expiresAt":
		at, err := time.Parse(time.RFC3339, m.string())
		if e.ExpiresAt = at; err != nil {
			return "expiresAt is not a time as in 2027-01-31T00:00:00Z"
		}
	case "labels":
		return e.labels(m)
	case ValueField:
		return e.take(map[string]secret.Value{ValueField: m.text}, m.kind == '"')
	case "fields":
		fields, ok := readFields(m.node, p)
		return e.take(fields, ok)
	default:
		return "a credential has no member " + strings.ToValidUTF8(m.name, "?")
	}
	return ""
}

func (e *Entry) take(fields map[string]secret.Value, ok bool) (wrong string) {
	switch {
	case !ok:
		return "the value is not a string, or a field is not one"
	case e.Fields != nil:
		return "value and fields are both given"
	}
	e.Fields = fields
	return ""
}

func (e *Entry) labels(m member) (wrong string) {
	e.Labels = map[string]string{}
	for _, l := range m.members {
		if l.kind != '"' {
			return "a label is not a string"
		}
		e.Labels[l.name] = l.string()
	}
	return ""
}
