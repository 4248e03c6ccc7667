#!/usr/bin/python3 -B
"""A Sidevault validator in Python: an Acme key begins with a prefix. It asks nobody,
so that the example runs anywhere."""

import json

from sidevault_plugin import NoAnswer, accept, reject, serve


def validate(request, _context):
    try:
        config = json.loads(request.config or "{}")
        prefix = config.pop("prefix", "acme_")
    except (AttributeError, ValueError):
        raise NoAnswer("the config is not a JSON object") from None
    if config or not isinstance(prefix, str):
        # A misspelt option must not be one that is silently missing.
        raise NoAnswer("the config has an unknown key, or a prefix that is no text")
    if not request.fields["value"].startswith(prefix):
        return reject(f"an Acme key begins with {prefix}: copy it again from the console", value="has another beginning")
    return accept()


if __name__ == "__main__":
    serve(validate, name="acme", version="1.0.0", description="Checks Acme keys.")
