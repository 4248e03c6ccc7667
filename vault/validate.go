package vault

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"unicode"

	"github.com/sidevault/sidevault/vault/seal"
	"github.com/sidevault/sidevault/vault/secret"
)

// maxPluginText is how many characters of a plugin's message are passed on.
const maxPluginText = 500

// Test asks the validators about fields as Set would, or without any about those
// that the slot's own credential has, and stores nothing. It returns what Set would:
// nil when they pass. Reading the stored ones is an audited read.
func (v *Vault) Test(ctx context.Context, c Caller, slot Slot, in SetInput) (err error) {
	a := v.begin(c, ActionTest, slot)
	defer func() { err = a.close(ctx, err) }()
	if err := a.changes(slot); err != nil {
		return err
	}
	integration, err := v.enabled(ctx, c.Org, slot.Integration)
	if err != nil {
		return err
	}
	if _, err := v.keys.newest(slot.Scope); err != nil {
		return err
	}
	a.note("stored", in.Fields == nil)
	if in.Fields == nil {
		stored, err := a.resolve(ctx, slot, ResolveOptions{NoFallback: true})
		if err != nil {
			return err
		}
		defer stored.Secret.Clear()
		if in.Fields, err = stored.Fields(); err != nil {
			return err
		}
		in.AuthType = stored.Credential.AuthType
	}
	if err := checkInput(integration, slot, in, v.now()); err != nil {
		return err
	}
	if err := a.validate(ctx, integration, slot, in.AuthType, in.Fields); err != nil {
		return err
	}
	_, err = a.commit(ctx)
	return storageErrorOr(err)
}

// validate asks the integration's validators, in their order, about fields that are
// to be stored. It must be called outside any lock: they may take their time.
func (a *attempt) validate(ctx context.Context, i Integration, slot Slot, authType string, fields seal.Fields) error {
	var passed, skipped []string
	for _, b := range i.Validators {
		err := a.ask(ctx, i, b, PluginCall{
			Binding: b.Binding, Org: a.caller.Org.Slug, Slot: slot, AuthType: authType, Fields: b.given(fields),
		}, fields)
		switch {
		case err == nil:
			passed = append(passed, b.Name)
		case b.AllowUnavailable && KindOf(err) == ValidatorUnavailable:
			a.v.log.WarnContext(ctx, "a validator gave no answer, and its binding lets the credential pass",
				"integration", i.Key, "validator", b.Name, "request_id", a.entry.RequestID, "err", err)
			skipped = append(skipped, b.Name)
		default:
			a.note("validator", b.Name)
			return err
		}
	}
	if len(passed) > 0 {
		a.note("validatedBy", passed)
	}
	if len(skipped) > 0 {
		a.note("notValidatedBy", skipped)
	}
	return nil
}

// ask asks one validator. all are the fields whose values must not come back.
func (a *attempt) ask(ctx context.Context, i Integration, b Validator, call PluginCall, all seal.Fields) error {
	answer, err := a.v.plugins.Validate(ctx, call)
	if ctx.Err() != nil {
		return ctx.Err() // the caller's patience ended, not the plugin's time
	}
	if err != nil {
		return errorf(ValidatorUnavailable, "The validator %s gave no answer", b.Name).
			detailed("%s; nothing was stored, and what was stored before stays", foreign(striker(i, all), reason(err))).because(err)
	}
	if !answer.Rejected {
		return nil
	}
	return rejection(i, b, answer, all)
}

// rejection is what the caller is told of a validator's rejection.
func rejection(i Integration, b Validator, answer Validation, fields seal.Fields) error {
	struck := striker(i, fields)
	e := errorf(InvalidCredentials, "%s", foreign(struck, answer.Message)).
		detailed("the validator %s rejected it; nothing was stored, and what was stored before stays", b.Name)
	// A name that is not one of the fields given may be anything.
	for _, name := range slices.Sorted(maps.Keys(fields)) {
		if msg := foreign(struck, answer.Fields[name]); msg != "" {
			e.Fields = append(e.Fields, FieldError{Path: fieldPath(name, fields), Code: "rejected", Msg: msg})
		}
	}
	if e.Msg == "" && len(e.Fields) > 0 {
		e.Msg = e.Fields[0].Msg
	}
	if e.Msg == "" {
		e.Msg = fmt.Sprintf("The credential for %s was rejected", i.Key)
	}
	return e
}

// fieldPath leads to a field in the body that gave it.
func fieldPath(name string, fields seal.Fields) []string {
	if name == ValueField && len(fields) == 1 {
		return []string{ValueField}
	}
	return []string{"fields", name}
}

// striker finds the values of fields that must not be shown.
func striker(i Integration, fields seal.Fields) *secret.Striker {
	var secrets []secret.Value
	for name, value := range fields {
		if f, known := i.field(name); !known || f.Secret {
			secrets = append(secrets, value)
		}
	}
	return secret.NewStriker(secrets...)
}

// foreign makes a plugin's text fit to be shown: without secrets, printable, in one
// line and not long.
func foreign(struck *secret.Striker, text string) string {
	text = struck.Strike(text)
	text = strings.Map(func(r rune) rune {
		switch {
		case unicode.IsSpace(r):
			return ' '
		case !unicode.IsPrint(r):
			return -1
		}
		return r
	}, text)
	// Once more: a secret may have been interspersed with what was left out.
	text = strings.TrimSpace(struck.Strike(text))
	if r := []rune(text); len(r) > maxPluginText {
		text = string(r[:maxPluginText-1]) + "…"
	}
	return text
}

// given returns those of the fields that the binding gives to its plugin.
func (b Binding) given(fields seal.Fields) seal.Fields {
	given := seal.Fields{}
	for name, value := range fields {
		if b.Fields == nil || slices.Contains(b.Fields, name) {
			given[name] = value
		}
	}
	return given
}

// reason says why a plugin gave no answer, in words that may be shown.
func reason(err error) string {
	if e, ok := asPluginError(err); ok {
		return fmt.Sprintf("plugin %s %s", e.Plugin, e.Reason)
	}
	return "the log has more"
}
