'use strict';

// A self-signed certificate (X.509, RFC 5280) for this process alone, which the
// sidecar will pin. Node.js reads certificates but makes none, so this writes the DER
// itself instead of trusting one more package with it.

const crypto = require('node:crypto');

function der(tag, ...parts) {
  const body = Buffer.concat(parts);
  const length = [];
  for (let n = body.length; n > 0; n >>= 8) length.unshift(n & 0xff);
  const head = body.length < 0x80 ? [body.length] : [0x80 | length.length, ...length];
  return Buffer.concat([Buffer.from([tag, ...head]), body]);
}

const sequence = (...parts) => der(0x30, ...parts);
const oid = (hex) => der(0x06, Buffer.from(hex, 'hex'));
const bits = (bytes) => der(0x03, Buffer.from([0]), bytes);
const yes = der(0x01, Buffer.from([0xff]));
const extension = (id, value, ...critical) => sequence(oid(id), ...critical, der(0x04, value));
// UTCTime: YYMMDDhhmmssZ.
const time = (t) => der(0x17, Buffer.from(t.toISOString().replace(/[-:T]|\.\d+/g, '').slice(2)));

/** Returns a key and its certificate in PEM, and the certificate in DER. */
function selfSigned() {
  const { publicKey, privateKey } = crypto.generateKeyPairSync('ec', { namedCurve: 'P-256' });
  const host = Buffer.from('localhost');
  const name = sequence(der(0x31, sequence(oid('550403'), der(0x0c, host)))); // commonName
  const ecdsaWithSHA256 = sequence(oid('2a8648ce3d040302'));
  const serial = crypto.randomBytes(16);
  serial[0] = (serial[0] & 0x3f) | 0x40; // positive, and no leading zero
  const day = 24 * 60 * 60 * 1000;
  const certified = sequence(
    der(0xa0, der(0x02, Buffer.from([2]))), // version 3
    der(0x02, serial),
    ecdsaWithSHA256,
    name, // issuer
    sequence(time(new Date(Date.now() - day)), time(new Date(Date.now() + 3650 * day))),
    name, // subject
    publicKey.export({ type: 'spki', format: 'der' }),
    der(0xa3, sequence(
      extension('551d11', sequence(der(0x82, host))), // subjectAltName
      extension('551d13', sequence(yes), yes), // basicConstraints: a CA
      extension('551d25', sequence(oid('2b06010505070301'))), // extKeyUsage: serverAuth
    )),
  );
  const certificate = sequence(certified, ecdsaWithSHA256, bits(crypto.sign('sha256', certified, privateKey)));
  return {
    key: privateKey.export({ type: 'pkcs8', format: 'pem' }),
    certificate: new crypto.X509Certificate(certificate).toString(),
    der: certificate,
  };
}

module.exports = { selfSigned };
