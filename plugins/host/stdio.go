package host

import (
	"context"

	"google.golang.org/grpc"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/types/known/emptypb"
)

// The services that go-plugin adds to a plugin's, of which the host uses two. It
// does not use go-plugin's own client for them, which takes messages of any size.
const (
	stdioMethod    = "/plugin.GRPCStdio/StreamStdio"
	shutdownMethod = "/plugin.GRPCController/Shutdown"
)

// stdioStderr is StdioData.STDERR of go-plugin's grpc_stdio.proto, whose message is
//
//	Channel channel = 1;  bytes data = 2;
const stdioStderr = 2

// forward logs what the plugin's code writes to its standard error after go-plugin
// has taken that over, until the connection ends. A plugin without the service, as
// in other languages, writes to its real standard error.
func (m *member) forward() {
	defer m.prog.host.work.Done()
	defer m.stdio.close()
	stream, err := m.conn.NewStream(context.Background(), &grpc.StreamDesc{ServerStreams: true}, stdioMethod)
	if err != nil {
		return
	}
	if err := stream.SendMsg(&emptypb.Empty{}); err != nil {
		return
	}
	if err := stream.CloseSend(); err != nil {
		return
	}
	for {
		var data emptypb.Empty
		if err := stream.RecvMsg(&data); err != nil {
			return
		}
		if channel, text := stdioData(data.ProtoReflect().GetUnknown()); channel == stdioStderr {
			m.stdio.Write(text)
		}
	}
}

// stdioData reads the two fields of a StdioData.
func stdioData(b []byte) (channel uint64, text []byte) {
	for len(b) > 0 {
		number, kind, n := protowire.ConsumeTag(b)
		if n < 0 {
			return 0, nil
		}
		b = b[n:]
		switch {
		case number == 1 && kind == protowire.VarintType:
			channel, n = protowire.ConsumeVarint(b)
		case number == 2 && kind == protowire.BytesType:
			text, n = protowire.ConsumeBytes(b)
		default:
			n = protowire.ConsumeFieldValue(number, kind, b)
		}
		if n < 0 {
			return 0, nil
		}
		b = b[n:]
	}
	return channel, text
}

// shutdown asks the plugin to end by itself.
func (m *member) shutdown(ctx context.Context) error {
	return m.conn.Invoke(ctx, shutdownMethod, &emptypb.Empty{}, &emptypb.Empty{})
}
