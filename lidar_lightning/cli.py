"""The command `lidar`: fit, validate and predict by LightningCLI from a YAML, and demo, compare and report."""

import logging
import sys
import warnings
from collections.abc import Sequence

import lightning as L
from lightning.pytorch.cli import LightningCLI

logger = logging.getLogger("lidar_lightning")
USAGE = """usage: lidar COMMAND ...

  fit       train or fine-tune:    lidar fit -c configs/qm9/dpo.yaml
  validate  validate:              lidar validate -c configs/qm9/pretrain.yaml --ckpt_path CHECKPOINT
  predict   sample with guidance:  lidar predict -c configs/qm9/lidar.yaml [--ckpt_path CHECKPOINT]
  demo      vanilla, LiDAR, DPO and DPO+LiDAR on molecules and pictures, in minutes, without a download
  compare   samplers at equal budgets:  lidar compare --config configs/shapes/compare.yaml [--processes N]
  report    write RUN/report.html: lidar report RUN

`lidar COMMAND --help` lists the options of each."""


class LidarCLI(LightningCLI):
    """LightningCLI with the subcommands that mean something here; classes are named in the YAML."""

    @staticmethod
    def subcommands() -> dict[str, set[str]]:
        return {name: LightningCLI.subcommands()[name] for name in ("fit", "validate", "predict")}

    def _parse_ckpt_path(self) -> None:
        """A checkpoint gives weights only: never the class or the arguments of the module."""


def run(arguments: Sequence[str]) -> None:
    command = arguments[0] if arguments else "--help"
    if command in {"-h", "--help"}:
        print(USAGE)
    elif command == "demo":
        from jsonargparse import auto_cli

        from recipes.demo import main as demo

        print(auto_cli(demo, args=list(arguments[1:])))
    elif command == "report":
        from jsonargparse import auto_cli

        from lidar_lightning.report import write_report

        print(auto_cli(write_report, args=list(arguments[1:])))
    elif command == "compare":
        from jsonargparse import auto_cli

        from lidar_lightning.compare import compare

        print(auto_cli(compare, args=list(arguments[1:]), as_positional=False))
    elif command in LidarCLI.subcommands():
        LidarCLI(
            L.LightningModule,
            L.LightningDataModule,
            subclass_mode_model=True,
            subclass_mode_data=True,
            save_config_kwargs={"overwrite": True},
            seed_everything_default=0,
            args=list(arguments),
        )
    else:
        raise ValueError(f"unknown command {command!r}\n{USAGE}")


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs a command. Returns 0, or 2 after a one-line message when the input is at fault."""
    logging.basicConfig(level=logging.INFO, format="%(name)s: %(message)s")
    warnings.filterwarnings("ignore", message=".*does not have many workers.*")
    warnings.filterwarnings("ignore", message=".*LeafSpec.*")
    warnings.filterwarnings("ignore", message=".*args parameter is intended to run.*")
    try:
        run(sys.argv[1:] if arguments is None else arguments)
    except (ValueError, OSError, RuntimeError) as error:
        logger.debug("traceback", exc_info=True)
        print(f"lidar: error: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
