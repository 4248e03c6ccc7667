'use strict';

// Serves a Sidevault validator: the protocol of docs/plugins.md, in JavaScript.
//
//     serve({
//       name: 'acme', version: '1.0.0', description: '...',
//       async validate(request, signal) {
//         return good(request.fields.value) ? accept() : reject('why, and what to do');
//       },
//     });
//
// What validate throws is no answer, and the credential is then not stored; the text of
// a NoAnswer goes to the sidecar's log. signal is aborted when nobody waits for the
// answer any longer.

const os = require('node:os');
const fs = require('node:fs');
const path = require('node:path');
const grpc = require('@grpc/grpc-js');
const protoLoader = require('@grpc/proto-loader');
const { selfSigned } = require('./certificate');

const COOKIE = ['SIDEVAULT_PLUGIN', '5f4b7c0d-sidevault-plugin-v1'];
const PROTOCOL = 1;

/** The validator cannot tell. The text must not contain the value of a field. */
class NoAnswer extends Error {}

/** The credential is good. */
const accept = () => ({ verdict: 'VERDICT_VALID' });

/** The credential is not good; fields says what is wrong with single fields. */
const reject = (message, fields = {}) => ({ verdict: 'VERDICT_REJECTED', message, field_messages: fields });

/** Answers the sidecar's calls until it ends the program. */
function serve(plugin) {
  if (process.env[COOKIE[0]] !== COOKIE[1]) {
    process.stderr.write('This program is a plugin of Sidevault, which starts it.\n');
    process.exit(1);
  }
  const server = new grpc.Server();
  addServices(server, plugin);
  const own = selfSigned();
  const credentials = grpc.ServerCredentials.createSsl(
    Buffer.from(process.env.PLUGIN_CLIENT_CERT || ''),
    [{ private_key: Buffer.from(own.key), cert_chain: Buffer.from(own.certificate) }],
    true, // nobody without the sidecar's certificate
  );
  const folder = process.env.PLUGIN_UNIX_SOCKET_DIR || fs.mkdtempSync(path.join(os.tmpdir(), 'plugin-'));
  const socket = path.join(folder, 'plugin.sock');
  server.bindAsync(`unix:${socket}`, credentials, (error) => {
    if (error) {
      process.stderr.write(`listen: ${error.message}\n`);
      process.exit(1);
    }
    // The handshake. Nothing else may be printed; log with console.error.
    const certificate = own.der.toString('base64').replace(/=+$/, '');
    process.stdout.write(`1|${PROTOCOL}|unix|${socket}|grpc|${certificate}\n`);
  });
}

/** Adds the services of Sidevault, and two that go-plugin asks for. */
function addServices(server, plugin) {
  const loaded = grpc.loadPackageDefinition(protoLoader.loadSync(path.join(__dirname, 'plugin.proto'), {
    keepCase: true, longs: String, enums: String, defaults: true, oneofs: true,
  })).sidevault.plugin.v1;
  server.addService(loaded.Validator.service, {
    Validate(call, callback) {
      const given = new AbortController();
      call.on('cancelled', () => given.abort());
      Promise.resolve()
        .then(() => plugin.validate(call.request, given.signal))
        .then((answer) => callback(null, answer))
        .catch((error) => {
          // The text of any other may quote the request, so it is not passed on.
          const details = error instanceof NoAnswer ? error.message : `the validator has a ${error.name}`;
          callback({ code: grpc.status.UNAVAILABLE, details });
        });
    },
  });
  server.addService(loaded.Plugin.service, {
    Describe(_call, callback) {
      const { name, version, description = '' } = plugin;
      callback(null, { name, version, description, services: ['validator'] });
    },
  });
  // HealthCheckResponse{status: SERVING} is field 1, number 1.
  server.addService(...bytes('/grpc.health.v1.Health/Check', (_call, callback) => callback(null, Buffer.from([8, 1]))));
  server.addService(...bytes('/plugin.GRPCController/Shutdown', (_call, callback) => {
    callback(null, Buffer.alloc(0));
    setTimeout(() => process.exit(0), 1000).unref();
    server.tryShutdown(() => process.exit(0));
  }));
}

/** A service of one method, whose messages are their bytes. */
function bytes(method, call) {
  const same = (message) => message;
  return [{
    call: {
      path: method, requestStream: false, responseStream: false,
      requestSerialize: same, requestDeserialize: same, responseSerialize: same, responseDeserialize: same,
    },
  }, { call }];
}

module.exports = { NoAnswer, accept, reject, serve };
