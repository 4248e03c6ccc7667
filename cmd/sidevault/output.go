package main

import (
	"encoding/json"
	"fmt"
	"io"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

// output is the form in which a command prints what it has found.
type output string

const (
	asTable output = "table" // for people; also the zero value
	asJSON  output = "json"
	asYAML  output = "yaml"
)

const (
	outputFlag = "output"
	jsonFlag   = "json"
)

// addOutputFlags declares --output, and --json for the form that programs ask for most.
// The last one counts.
func addOutputFlags(cmd *cobra.Command, to *output) {
	*to = asTable
	flags := cmd.Flags()
	flags.VarP(to, outputFlag, "o", "`form` of what is printed: table, json or yaml")
	flags.AddFlag(&pflag.Flag{
		Name: jsonFlag, Usage: "print JSON, for programs", Value: (*jsonOutput)(to), DefValue: "false", NoOptDefVal: "true",
	})
	complete := cobra.FixedCompletions([]cobra.Completion{string(asTable), string(asJSON), string(asYAML)}, cobra.ShellCompDirectiveNoFileComp)
	if err := cmd.RegisterFlagCompletionFunc(outputFlag, complete); err != nil {
		panic(err) // the flag is not declared
	}
}

// String, Set and Type make it a flag.
func (o *output) String() string { return string(*o) }
func (o *output) Type() string   { return "form" }

func (o *output) Set(s string) error {
	switch v := output(s); v {
	case asTable, asJSON, asYAML:
		*o = v
		return nil
	}
	return fmt.Errorf("%q is none of table, json and yaml", s)
}

// jsonOutput is an output as a flag that is there or not.
type jsonOutput output

func (o *jsonOutput) String() string   { return fmt.Sprint(output(*o) == asJSON) }
func (o *jsonOutput) Type() string     { return "bool" }
func (o *jsonOutput) IsBoolFlag() bool { return true }

func (o *jsonOutput) Set(s string) error {
	switch s {
	case "true":
		*o = jsonOutput(asJSON)
	case "false":
		*o = jsonOutput(asTable)
	default:
		return fmt.Errorf("%q is neither true nor false", s)
	}
	return nil
}

// forPrograms reports whether data is asked for, and not text.
func (o output) forPrograms() bool { return o == asJSON || o == asYAML }

// print prints data for programs: in YAML what it would be in JSON.
func (o output) print(w io.Writer, v any) error {
	if o != asYAML {
		return printJSON(w, v)
	}
	text, err := toYAML(v)
	if err != nil {
		return err
	}
	_, err = w.Write(text)
	return err
}

// printLine prints one of many: a line of JSON, or a YAML document.
func (o output) printLine(w io.Writer, v any) error {
	if o == asYAML {
		text, err := toYAML(v)
		if err != nil {
			return err
		}
		_, err = w.Write(append([]byte("---\n"), text...))
		return err
	}
	enc := json.NewEncoder(w)
	enc.SetEscapeHTML(false)
	return enc.Encode(v)
}
