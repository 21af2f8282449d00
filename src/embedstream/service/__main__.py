"""`python -m embedstream.service` is `embedstream service`."""

import sys

from embedstream.errors import ConfigError
from embedstream.service.http.server import serve
from embedstream.settings import load_settings


def main() -> None:
    try:
        serve(load_settings())
    except ConfigError as exc:
        sys.stderr.write(f"embedstream: {exc}\n")
        sys.exit(2)


if __name__ == "__main__":
    main()
