#!/usr/bin/env node
'use strict';

// A Sidevault validator in JavaScript: an Acme key begins with a prefix. It asks
// nobody, so that the example runs anywhere.

const { NoAnswer, accept, reject, serve } = require('./sidevault-plugin');

function read(config) {
  try {
    const options = JSON.parse(config || '{}');
    if (typeof options === 'object' && options !== null && !Array.isArray(options)) return options;
  } catch {
    // Said below: the parser's own text quotes what it read.
  }
  throw new NoAnswer('the config is not a JSON object');
}

async function validate(request) {
  const { prefix = 'acme_', ...unknown } = read(request.config);
  if (typeof prefix !== 'string' || Object.keys(unknown).length > 0) {
    // A misspelt option must not be one that is silently missing.
    throw new NoAnswer('the config has an unknown key, or a prefix that is no text');
  }
  if (!(request.fields.value || '').startsWith(prefix)) {
    return reject(`an Acme key begins with ${prefix}: copy it again from the console`, { value: 'has another beginning' });
  }
  return accept();
}

serve({ name: 'acme', version: '1.0.0', description: 'Checks Acme keys.', validate });
