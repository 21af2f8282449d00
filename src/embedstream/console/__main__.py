"""`python -m embedstream.console` is `embedstream console`."""

import sys

from embedstream.console.server import serve
from embedstream.errors import ConfigError
from embedstream.settings import load_settings


def main() -> None:
    try:
        serve(load_settings())
    except ConfigError as exc:
        sys.stderr.write(f"embedstream: {exc}\n")
        sys.exit(2)


if __name__ == "__main__":
    main()
