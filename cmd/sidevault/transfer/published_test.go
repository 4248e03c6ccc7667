package transfer

import (
	"testing"

	"github.com/google/go-cmp/cmp"
)

// published are whole answers of the programs, in the shapes that their documentation
// shows, with everything that is of no use here.
func published() map[string]readCase {
	return map[string]readCase{
		"vault kv get": {Vault, `{
  "request_id": "2e2e1a3a-0c2f-0a7f-2d9e-6f5f0a1c9d11",
  "lease_id": "",
  "lease_duration": 0,
  "renewable": false,
  "data": {
    "data": {
      "host": "sftp.example.com",
      "port": 22,
      "strict": true,
      "username": "me"
    },
    "metadata": {
      "created_time": "2026-03-01T10:00:00.123456789Z",
      "custom_metadata": null,
      "deletion_time": "",
      "destroyed": false,
      "version": 3
    }
  },
  "warnings": null,
  "mount_type": "kv"
}`, "1  host=\"sftp.example.com\" port=\"22\" strict=\"true\" username=\"me\"\n"},
		"op item get": {OnePassword, `{
  "id": "w3jvexamplebxzqvm3lxtvlq4e",
  "title": "SFTP",
  "version": 4,
  "vault": {"id": "y7fpexample", "name": "Staging"},
  "category": "LOGIN",
  "last_edited_by": "AAAEXAMPLE",
  "created_at": "2026-01-25T14:36:10Z",
  "updated_at": "2026-02-25T14:36:10Z",
  "additional_information": "me",
  "urls": [{"label": "website", "primary": true, "href": "sftp://sftp.example.com"}],
  "sections": [{"id": "add more"}, {"id": "adm", "label": "Admin"}],
  "fields": [
    {"id": "username", "type": "STRING", "purpose": "USERNAME", "label": "username", "value": "me", "reference": "op://Staging/SFTP/username"},
    {"id": "password", "type": "CONCEALED", "purpose": "PASSWORD", "label": "password", "value": "p", "reference": "op://Staging/SFTP/password", "password_details": {"strength": "FANTASTIC"}},
    {"id": "notesPlain", "type": "STRING", "purpose": "NOTES", "label": "notesPlain", "value": "n", "reference": "op://Staging/SFTP/notesPlain"},
    {"id": "TOTP_x", "section": {"id": "add more"}, "type": "OTP", "label": "one-time password", "value": "otpauth://totp/x", "totp": "123456", "reference": "op://Staging/SFTP/one-time password"},
    {"id": "h", "section": {"id": "add more"}, "type": "STRING", "label": "host", "value": "sftp.example.com", "reference": "op://Staging/SFTP/add more/host"},
    {"id": "a", "section": {"id": "adm", "label": "Admin"}, "type": "CONCEALED", "label": "password", "value": "q", "reference": "op://Staging/SFTP/Admin/password"}
  ]
}`, "1 SFTP Admin/password=\"q\" host=\"sftp.example.com\" password=\"p\" username=\"me\"\n"},
		"op API credential": {OnePassword, `{"id": "1", "title": "HubSpot", "version": 1, "vault": {"id": "v"}, "category": "API_CREDENTIAL", "fields": [
  {"id": "notesPlain", "type": "STRING", "label": "notesPlain", "value": "n"},
  {"id": "username", "type": "STRING", "label": "username"},
  {"id": "credential", "type": "CONCEALED", "label": "credential", "value": "k", "reference": "op://v/HubSpot/credential"},
  {"id": "otp", "type": "TOTP", "label": "one-time password", "value": "x"},
  {"id": "expires", "type": "DATE", "label": "expires"}]}`, "1 HubSpot value=\"k\"\n"},
		"doppler secrets --json": {Doppler, `{
  "OPENAI_API_KEY": {
    "computed": "sk-1",
    "computedValueType": {"type": "string"},
    "computedVisibility": "masked",
    "note": "",
    "raw": "${shared.OPENAI_API_KEY}",
    "rawVisibility": "masked"
  },
  "DOPPLER_PROJECT": {"computed": "backend", "computedVisibility": "unmasked", "note": ""}
}`, "2 OPENAI_API_KEY =\"sk-1\"\n10 DOPPLER_PROJECT skip: it is Doppler's own\n"},
		"doppler secrets download": {Doppler, `{"DOPPLER_CONFIG":"stg","DOPPLER_ENVIRONMENT":"stg","DOPPLER_PROJECT":"backend","OPENAI_API_KEY":"sk-1"}`,
			"1 DOPPLER_CONFIG skip: it is Doppler's own\n1 DOPPLER_ENVIRONMENT skip: it is Doppler's own\n1 DOPPLER_PROJECT skip: it is Doppler's own\n1 OPENAI_API_KEY =\"sk-1\"\n"},
		"Doppler's API": {Doppler, `{"secrets": {"OPENAI_API_KEY": {"raw": "sk-1", "computed": "sk-1", "note": "", "rawVisibility": "masked", "computedVisibility": "masked"}}, "success": true}`,
			"1 OPENAI_API_KEY =\"sk-1\"\n"},
	}
}

func TestReadPublished(t *testing.T) {
	for name, c := range published() {
		t.Run(name, func(t *testing.T) {
			entries, err := Read(c.format, []byte(c.text))
			if err != nil {
				t.Fatal(err)
			}
			// The values are made up here, and no secrets.
			if diff := cmp.Diff(c.want, told(entries)); diff != "" {
				t.Error(diff)
			}
			if f, certain := Detect("", []byte(c.text)); !certain || f != c.format {
				t.Errorf("detected as %q, %v", f, certain)
			}
		})
	}
}
