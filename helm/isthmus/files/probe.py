"""Asks the LLM service for its health over mutual TLS, as the kubelet cannot: probe.py URL."""

import ssl
import sys
import urllib.request

TLS = "/etc/isthmus/tls"


def main(url: str, directory: str = TLS) -> int:
    context = ssl.create_default_context(cafile=f"{directory}/ca.crt")
    context.load_cert_chain(f"{directory}/tls.crt", f"{directory}/tls.key")
    try:
        # The chart's own https URL, never a caller's.
        with urllib.request.urlopen(url, timeout=4, context=context) as response:  # noqa: S310
            return 0 if response.status == 200 else 1
    except OSError as error:
        sys.stderr.write(f"{url}: {error}\n")
        return 1


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
