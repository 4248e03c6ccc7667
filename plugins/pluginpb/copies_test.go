package pluginpb_test

import (
	"bytes"
	"encoding/hex"
	"os"
	"os/exec"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protodesc"
	"google.golang.org/protobuf/testing/protocmp"
	"google.golang.org/protobuf/types/descriptorpb"

	"github.com/sidevault/sidevault/plugins/pluginpb"
)

// The examples have the protocol with them, as a program elsewhere would.
func TestProtoOfNodeExample(t *testing.T) {
	original := read(t, "../proto/sidevault/plugin/v1/plugin.proto")
	if !bytes.Equal(original, read(t, "../../examples/validator-node/plugin.proto")) {
		t.Error("examples/validator-node/plugin.proto is not the protocol: copy plugins/proto/sidevault/plugin/v1/plugin.proto over it")
	}
}

func TestCodeOfPythonExample(t *testing.T) {
	const python = "/usr/bin/python3"
	if exec.Command(python, "-c", "import google.protobuf").Run() != nil {
		t.Skip("there is no " + python + " with the package python3-protobuf")
	}
	cmd := exec.CommandContext(t.Context(), python, "-B", "-c", "from sidevault.plugin.v1 import plugin_pb2; print(plugin_pb2.DESCRIPTOR.serialized_pb.hex())")
	cmd.Dir = "../../examples/validator-python"
	out, err := cmd.Output()
	if err != nil {
		t.Fatal(err)
	}
	wire, err := hex.DecodeString(strings.TrimSpace(string(out)))
	if err != nil {
		t.Fatal(err)
	}
	var got descriptorpb.FileDescriptorProto
	if err := proto.Unmarshal(wire, &got); err != nil {
		t.Fatal(err)
	}
	file, err := protodesc.NewFile(&got, nil)
	if err != nil {
		t.Fatal(err)
	}
	// Go's code also has the names that fields get in JSON, which follow from theirs.
	names := protocmp.IgnoreFields(&descriptorpb.FieldDescriptorProto{}, "json_name")
	want := protodesc.ToFileDescriptorProto(pluginpb.File_sidevault_plugin_v1_plugin_proto)
	if diff := cmp.Diff(want, protodesc.ToFileDescriptorProto(file), protocmp.Transform(), names); diff != "" {
		t.Errorf("examples/validator-python has the code of another protocol: generate it again, as its README says\n%s", diff)
	}
}

func read(t *testing.T, path string) []byte {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return data
}
