"""`python -m cattlegrid.testing.scripted`: the scripted model in a process of its own, without the command line tool."""

import argparse
import sys

from cattlegrid.testing.scripted.app import NOTICE, create_app
from cattlegrid.testing.scripted.personas import PERSONAS
from cattlegrid.testing.scripted.server import DEFAULT_PORT, LOOPBACK, run


def main() -> None:
    """Parse the arguments and serve; the first line of output is the base URL."""
    parser = argparse.ArgumentParser(prog="python -m cattlegrid.testing.scripted", description=NOTICE)
    parser.add_argument("--host", default=LOOPBACK)
    parser.add_argument("--port", type=int, default=DEFAULT_PORT, help="0 takes a free one")
    parser.add_argument("--persona", choices=PERSONAS, default="careful")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--latency-s", type=float, default=0.0, help="time to the first byte")
    parser.add_argument(
        "--chunk-delay-s", type=float, default=0.0, help="time between the chunks of a stream"
    )
    parser.add_argument("--fault", default="", help="KIND;count=N;at=K;delay=S for every request")
    arguments = parser.parse_args()
    app = create_app(
        persona=arguments.persona,
        seed=arguments.seed,
        latency_s=arguments.latency_s,
        chunk_delay_s=arguments.chunk_delay_s,
        fault=arguments.fault,
    )
    run(app, host=arguments.host, port=arguments.port, on_ready=_announce)


def _announce(url: str) -> None:
    sys.stdout.write(f"{url}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main()
