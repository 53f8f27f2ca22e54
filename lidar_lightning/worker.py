"""One of the processes of `lidar compare`: `python -m lidar_lightning.worker CONFIG`."""

import sys

from lidar_lightning.lifetime import end_with_parent


def main(config: str) -> None:
    """Works on the comparison of a configuration file until nothing is left of it."""
    end_with_parent()  # Before the imports, which take seconds.
    from lidar_lightning.compare_command import read

    read(["--config", config])[0].work()


if __name__ == "__main__":
    main(sys.argv[1])
