package catalog

import (
	"bytes"
	"cmp"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/sidevault/sidevault/vault"
)

func TestBuiltinSize(t *testing.T) {
	categories := map[string]int{}
	for _, in := range Builtin().All() {
		categories[in.Category]++
	}
	if n := len(Builtin().All()); n < 40 || len(categories) < 9 {
		t.Errorf("%d integrations in %d categories", n, len(categories))
	}
	for category, n := range categories {
		if n < 3 {
			t.Errorf("category %s has %d integrations", category, n)
		}
	}
}

func TestBuiltinHas(t *testing.T) {
	for key := range strings.FieldsSeq(`
		salesforce hginsights_v2 zoominfo trustradius slack telegram servicenow sharepoint sftp vectorize weaviate clerk
		hubspot github gitlab jira confluence zendesk intercom stripe twilio sendgrid mailgun openai anthropic google_cloud
		aws azure snowflake postgresql mysql mongodb redis elasticsearch kafka datadog pagerduty okta box dropbox
		google_drive notion airtable asana monday linear pinecone qdrant shopify`) {
		if _, ok := Builtin().Lookup(key); !ok {
			t.Errorf("no %s", key)
		}
	}
}

// The auth types that the package's doc lists.
var authTypes = strings.Fields(`api_key basic bearer_token certificate connection_string oauth2_bearer
	oauth2_client_credentials oauth2_jwt_bearer oauth2_refresh_token service_account ssh_key webhook_secret webhook_url`)

func TestBuiltinEntriesAreComplete(t *testing.T) {
	sentence := regexp.MustCompile(`^[A-Z][^\n]{8,118}\.$`)
	for _, in := range Builtin().All() {
		if in.Name == "" || in.Docs == "" || !in.Enabled || len(in.Environments) > 0 || in.Registered {
			t.Errorf("%s: %+v", in.Key, in)
		}
		if !sentence.MatchString(in.Description) || strings.Contains(in.Description, ". ") {
			t.Errorf("%s: the description is no sentence: %s", in.Key, in.Description)
		}
		if n := len(regexp.MustCompile(`\.( |$)`).FindAllString(strings.ReplaceAll(in.Rotation, " ... ", " "), -1)); n < 2 || n > 4 || !strings.HasSuffix(in.Rotation, ".") {
			t.Errorf("%s: rotation has %d sentences: %s", in.Key, n, in.Rotation)
		}
		if len(in.AuthTypes) == 0 || len(in.Fields) == 0 {
			t.Errorf("%s: auth types %v, fields %v", in.Key, in.AuthTypes, in.Fields)
		}
		for _, a := range in.AuthTypes {
			if !slices.Contains(authTypes, a) {
				t.Errorf("%s: auth type %s is not in the package's doc", in.Key, a)
			}
		}
		if !slices.ContainsFunc(in.Fields, func(f vault.Field) bool { return f.Secret }) {
			t.Errorf("%s: nothing in it is secret", in.Key)
		}
		for _, f := range in.Fields {
			if len(f.Description) < 4 || !strings.HasSuffix(f.Description, ".") && !strings.HasSuffix(f.Description, "...") {
				t.Errorf("%s.%s: description %q", in.Key, f.Name, f.Description)
			}
		}
	}
}

func TestAuthTypesAreDocumented(t *testing.T) {
	doc, err := os.ReadFile("catalog.go")
	if err != nil {
		t.Fatal(err)
	}
	for _, a := range authTypes {
		if !bytes.Contains(doc, []byte("//	"+a+" ")) {
			t.Errorf("%s is not in the package's doc", a)
		}
	}
}

// What tells where something is, or who asks, may be shown.
func TestBuiltinSecrets(t *testing.T) {
	shown := regexp.MustCompile(`(^|_)(host|port|username|url|uri|domain|region|email|id|sid|database|servers|certificate)$`)
	secrets := strings.Fields("external_id connection_string webhook_url azure.certificate microsoft_dynamics_365.certificate " +
		"sharepoint.certificate onedrive.certificate azure_blob_storage.certificate ftps.client_certificate mongodb.client_certificate")
	hidden := regexp.MustCompile(`(^|_)(secret|password|passphrase|token|private_key|secret_key|json)$`)
	for _, in := range Builtin().All() {
		for _, f := range in.Fields {
			may := shown.MatchString(f.Name) && !slices.Contains(secrets, f.Name) && !slices.Contains(secrets, in.Key+"."+f.Name)
			if may && f.Secret || hidden.MatchString(f.Name) && !f.Secret {
				t.Errorf("%s.%s: secret: %t", in.Key, f.Name, f.Secret)
			}
		}
	}
}

func TestBuiltinOrder(t *testing.T) {
	entries := builtin().entries
	if !slices.IsSortedFunc(entries, func(a, b entry) int {
		return cmp.Or(cmp.Compare(a.Category, b.Category), cmp.Compare(a.Key, b.Key))
	}) {
		t.Error("not in the order of categories and, within each, of keys")
	}
}

func TestBuiltinCredentialOf(t *testing.T) {
	want := map[string]string{
		"confluence": "jira", "jira_service_management": "jira", "amazon_s3": "aws",
		"azure_blob_storage": "azure", "onedrive": "sharepoint",
		"bigquery": "google_cloud", "google_analytics": "google_cloud", "google_calendar": "google_cloud",
		"google_drive": "google_cloud", "google_sheets": "google_cloud",
	}
	for _, in := range Builtin().All() {
		if in.CredentialOf != want[in.Key] {
			t.Errorf("%s: credentialOf %q, want %q", in.Key, in.CredentialOf, want[in.Key])
		}
	}
}

// samples has, for every field with a pattern, values that it must accept, made
// up in the provider's format. A field's own name goes before the common one.
var samples = map[string][]string{
	"anthropic.api_key":                 {"sk-ant-api03-AbC_d-9"},
	"aws.access_key_id":                 {"AKIAIOSFODNN7EXAMPLE", "ASIAIOSFODNN7EXAMPLE"},
	"aws.role_arn":                      {"arn:aws:iam::123456789012:role/app/reader", "arn:aws-us-gov:iam::123456789012:role/x"},
	"azure.client_id":                   {"00001111-aaaa-2222-BBBB-3333cccc4444"},
	"box.config_json":                   {`{"boxAppSettings": {}}`},
	"clerk.publishable_key":             {"pk_test_Y2xlcms", "pk_live_Y2xlcms"},
	"clerk.secret_key":                  {"sk_test_AbC123", "sk_live_AbC123"},
	"github.access_token":               {"ghp_16C7e42F292c6912E7710c838347Ae178B4a", "github_pat_11AAAA_bbbb", "ghs_a.b-c", "0123456789abcdef0123456789abcdef01234567"},
	"google_cloud.service_account_json": {"{\n  \"type\": \"service_account\"\n}\n"},
	"hginsights_v2.api_key":             {"hg_v2_K3WnkKrSyVD8yOoGTu1oqujB0f37eJuen1wvV2Ptg0"},
	"mongodb.connection_string":         {"mongodb://u:p@h:27017/db", "mongodb+srv://u:p@c.example.mongodb.net"},
	"openai.api_key":                    {"sk-proj-AbC_d-9", "sk-svcacct-x", "sk-AbC"},
	"rabbitmq.connection_string":        {"amqp://u:p@h", "amqps://u:p@h:5671/v"},
	"redis.connection_string":           {"redis://:p@h:6379/0", "rediss://u:p@h"},
	"sendgrid.api_key":                  {"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"},
	"sftp.private_key":                  {"-----BEGIN OPENSSH PRIVATE KEY-----\nb3Bl\n-----END OPENSSH PRIVATE KEY-----\n", "PuTTY-User-Key-File-3: ssh-ed25519\n"},
	"shopify.shop_domain":               {"my-shop.myshopify.com"},
	"slack.app_token":                   {"xapp-1-A01-23-abc"},
	"slack.bot_token":                   {"xoxb-17653672481-19874698323-pdFZKVeTuE8sk7oOcHrzqqgy", "xoxe.xoxb-1-Mi0yLTE"},
	"slack.refresh_token":               {"xoxe-1-My0xLTE"},
	"slack.user_token":                  {"xoxp-1-2-3-abc", "xoxe.xoxp-1-abc"},
	"slack.webhook_url":                 {"https://hooks.slack.com/services/T0/B0/XX", "https://hooks.slack-gov.com/services/T0/B0/XX"},
	"smtp.encryption":                   {"starttls", "tls", "none"},
	"stripe.publishable_key":            {"pk_live_51AbC", "pk_test_51AbC"},
	"stripe.secret_key":                 {"sk_live_51AbC", "rk_test_51AbC", "sk_org_live_x"},
	"telegram.bot_token":                {"123456:ABC-DEF1234ghIkl-zyx57W2v1u123ew11"},
	"telegram.webhook_secret":           {"A-b_9"},
	"twilio.account_sid":                {"AC0123456789abcdef0123456789abcdef"},
	"twilio.api_key_sid":                {"SK0123456789abcdef0123456789abcdef"},

	"base_url":            {"https://api.acme.example/v1"},
	"port":                {"22", "65535"},
	"private_key":         {"-----BEGIN PRIVATE KEY-----\nMIIE\n-----END PRIVATE KEY-----\n", "\n-----BEGIN ENCRYPTED PRIVATE KEY-----\nMIIE", "-----BEGIN RSA PRIVATE KEY-----\nMIIE"},
	"webhook_secret":      {"whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oD"},
	"account_id":          {"1234567"},
	"installation_id":     {"12345678"},
	"portal_id":           {"12345678"},
	"webhook_url":         {"https://hooks.acme.example/a?b=c"},
	"dsn":                 {"https://abc@o1.ingest.sentry.io/2"},
	"endpoint":            {"https://acme.openai.azure.com/"},
	"environment_url":     {"https://acme.crm.dynamics.com"},
	"host":                {"https://acme.cloud.databricks.com"},
	"instance_url":        {"https://acme.my.salesforce.com", "https://acme.service-now.com/"},
	"org_url":             {"https://acme.okta.com"},
	"registry":            {"https://npm.acme.example"},
	"schema_registry_url": {"https://psrc-x.eu-central-1.aws.confluent.cloud"},
	"site_url":            {"https://acme.atlassian.net", "https://acme.sharepoint.com/sites/x"},
	"uri":                 {"http://localhost:19530"},
	"url":                 {"https://x.cloud.acme.example:6333", "http://localhost:8080"},
}

func TestBuiltinPatternsAcceptSamples(t *testing.T) {
	for _, in := range Builtin().All() {
		for _, f := range in.Fields {
			if f.Pattern == nil || in.CredentialOf != "" {
				continue
			}
			values, ok := samples[in.Key+"."+f.Name]
			if !ok {
				values = samples[f.Name]
			}
			if len(values) == 0 {
				t.Errorf("%s.%s has a pattern and no sample", in.Key, f.Name)
			}
			for _, v := range values {
				if !f.Pattern.MatchString(v) {
					t.Errorf("%s.%s: %s refuses %q", in.Key, f.Name, f.Pattern, v)
				}
			}
			if v := values[0]; f.Pattern.MatchString(" \x00" + v) {
				t.Errorf("%s.%s: %s accepts %q with something before it", in.Key, f.Name, f.Pattern, v)
			}
		}
	}
}
