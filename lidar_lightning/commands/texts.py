"""What `lidar --help` and `lidar COMMAND --help` say: short, and without the imports of the commands themselves."""

USAGE = """usage: lidar COMMAND ...

  sample    draw samples now:         lidar sample --model udlm-qm9-small --reward RingCount --samples 64
  demo      vanilla, LiDAR, DPO and DPO+LiDAR on molecules and pictures, in minutes, without a download
  config    list or print the configurations that ship:  lidar config [NAME]
  predict   sample with guidance:     lidar predict -c qm9/lidar [--ckpt_path CHECKPOINT]
  fit       train or fine-tune:       lidar fit -c qm9/dpo
  validate  validate a checkpoint:    lidar validate -c qm9/pretrain --ckpt_path CHECKPOINT
  rounds    draw, score, fine-tune, guide, and again: lidar rounds -c qm9/rounds
  compare   samplers at equal budgets: lidar compare -c qm9/compare [--processes N]
  report    write RUN/report.html again: lidar report RUN
  push      a trained LoRA to the hub:  lidar push FOLDER OWNER/NAME --dry-run

LiDAR raises any reward of a diffusion model's samples: it draws a bank of cheap lookahead samples, scores them, and
guides the model with the result. `lidar COMMAND --help` says more; --debug shows the traceback of an error."""

CONFIGURED = """
  -c, --config CONFIG        a YAML file, or the name of one that ships (`lidar config` lists them); several are merged
  --ckpt_path CHECKPOINT     {checkpoint}
  --model.init_args.X VALUE  overrides a setting of the model; --data.init_args.X and --trainer.X likewise
  --print_config             prints the configuration that these options make, and ends
  --help-all                 lists every option, of Lightning's Trainer too
  --debug                    shows the traceback of an error"""

PREDICT = f"""usage: lidar predict -c CONFIG [--ckpt_path CHECKPOINT] [options]

Draws samples of every prompt, scores them, and writes tables, banks and a report into the folder `out`. It may be
killed: the same command goes on where it stopped.

  lidar predict -c qm9/lidar
  lidar predict -c shapes/lidar --model.init_args.out outputs/mine --data.init_args.samples 8
{CONFIGURED.format(checkpoint="guide this fine-tuned model")}

Settings of the model, as --model.init_args.X:

  reward        what to raise: the name of a class of lidar_lightning.rewards, or one of your own
  lookahead     how banks are drawn: .init_args.n samples of .init_args.steps network calls; null draws plain samples
  steps         network calls of the solver for each sample; null takes what is recommended
  scale         strength of the guidance: 1 samples the rewarded law, more sharpens it
  ess           how sharply rewards count, as the effective fraction of the bank, in (0, 1]
  temperature   lambda itself, in place of ess
  start, stop   guide while stop < t <= start; t = 1 is pure noise, 0 is data
  restart       the time from which to run, from noised members of the bank; null is pure noise
  candidates    samples drawn for each one that is kept
  rounds        in which candidates are drawn, each from all that was found before
  moves         Metropolis moves of every sample at the end
  smoothing     chance, in a bank of tokens, that a token counts as any token; null for what suits the model's noise
  metrics       rewards that are scored, but do not guide
  seed, out, method, training_data

Settings of the data, as --data.init_args.X: prompts (a text, a list, or a .txt, .csv or .jsonl file), samples of each
prompt, batch_size."""

FIT = f"""usage: lidar fit -c CONFIG [--ckpt_path last] [options]

Trains or fine-tunes what the configuration describes, and writes checkpoints and logs.

  lidar fit -c qm9/dpo                    DPO on the scored banks of a predict run
  lidar fit -c qm9/dpo --ckpt_path last   goes on where a run stopped
{CONFIGURED.format(checkpoint="go on from this checkpoint; `last` finds it")}"""

VALIDATE = f"""usage: lidar validate -c CONFIG --ckpt_path CHECKPOINT [options]

Measures the validation loss of a checkpoint.
{CONFIGURED.format(checkpoint="what to measure")}"""

COMPARE = """usage: lidar compare -c CONFIG [--processes N] [options]

Draws samples by several samplers at equal budgets of network calls (or seconds), and writes one table, curves and a
report. It may be killed: the same command goes on where it stopped.

  lidar compare -c qm9/compare --processes 2
  lidar compare -c shapes/compare --budgets "[50]" --seeds "[0]"

  -c, --config CONFIG   a YAML file, or the name of one that ships (`lidar config` lists them)
  --processes N         that share the work
  --budgets, --seeds, --prompts, --samples, --steps, --temperature, --out   override the configuration
  --help-all            lists every option
  --debug               shows the traceback of an error"""

ROUNDS = """usage: lidar rounds -c CONFIG [options]

Draws a bank, scores it, fine-tunes by DPO on its best against its worst, guides the new policy by it, and begins again
with the bank that this policy draws. Writes tables, curves over scoring calls, a report and the trained weights into
one folder. It may be killed: the same command goes on where it stopped; with more rounds, it adds them.

  lidar rounds -c qm9/rounds
  lidar rounds -c qm9/rounds --rounds 8 --reward lidar_lightning.rewards.RingCount --out outputs/rings
  lidar predict -c qm9/lidar --ckpt_path outputs/qm9/rounds/last.ckpt

  -c, --config CONFIG   a YAML file, or the name of one that ships (`lidar config` lists them)
  --rounds, --samples, --steps, --keep, --tuning_steps, --beta, --lr, --seed, --out   override the configuration
  --help-all            lists every option
  --debug               shows the traceback of an error"""

DEMO = """usage: lidar demo [--out FOLDER] [--seed SEED]

Samples molecules and pictures of coloured shapes four ways (vanilla, LiDAR, DPO and DPO+LiDAR) with the models that
ship, in minutes on two CPU cores. Writes the reports FOLDER/report.html and FOLDER/shapes/report.html, and the picture
FOLDER/before-after.png (by default into outputs/demo)."""

REPORT = """usage: lidar report RUN

Writes report.html of the folder of a run, or of a comparison, again, and prints its path."""

PUSH = """usage: lidar push FOLDER OWNER/NAME [--dry-run] [--private true]

Uploads the LoRA that `export` of a training wrote into FOLDER, with a model card, to the Hugging Face hub. With
--dry-run the card is written and the files are listed, and nothing leaves this machine: read and edit FOLDER/README.md
first. `hf auth login` gives the token."""

CONFIG = """usage: lidar config [NAME]

Without a name, lists the configurations that ship. With one, prints it: `lidar config qm9/lidar > my.yaml` begins
your own, for `lidar predict -c my.yaml`."""

HELP = {
    "compare": COMPARE, "config": CONFIG, "demo": DEMO, "fit": FIT, "predict": PREDICT, "push": PUSH,
    "report": REPORT, "rounds": ROUNDS, "validate": VALIDATE,
}  # fmt: skip
"""Of each command; `sample` has its own."""
