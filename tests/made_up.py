"""Made-up results of every script, as the scripts write them, with a few known numbers."""

import json
import statistics
from pathlib import Path

DEVICE = "Intel(R) Xeon(R), 2 threads"
COMMIT = "0123456789ab"
STROKE = "results/simclr/stroke/encoder.pt"
MARKERS = "<!-- report:{0} begin -->\nold\n<!-- report:{0} end -->\n"
# What is kept by hand, experiments, references and tables; records of trainings, and a benchmark.
CONTENT = json.loads(Path(__file__).with_suffix(".json").read_text())
README = "Before.\n\n" + "\n".join(map(MARKERS.format, ("overview", "results", "speed")))
COMBINATIONS = ("best_single", "average", "log_average", "vote", "greedy_loss", "greedy_accuracy", "bagged")


def write_json(path, **content):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps({"format": 1, **content}))


def write_lists(folder, *experiments, references=None, tables=None):
    """Write what is kept by hand: experiments.json and references.json."""
    write_json(folder / "experiments.json", experiments=experiments, tables=tables or {})
    write_json(folder / "references.json", references=references or {})


def runs_and_mean(records):
    keys = [key for key, value in records[0].items() if isinstance(value, int | float) and key != "seed"]
    return {"runs": records, "mean": {key: statistics.fmean(r[key] for r in records) for key in keys}}


def write_config(folder, script, commit, arguments):
    head = {"script": script, "command": f"python {script}.py", "versions": {"python": "3.12.1"}}
    write_json(folder / "config.json", **head, commit=commit, arguments=arguments)


def make_run(folder, records, script="train_cnn", commit=COMMIT, **arguments):
    """Write the committed files of a run."""
    write_config(folder, script, commit, arguments)
    head = {"device": DEVICE, "seconds": sum(record["seconds"] for record in records)}
    write_json(folder / "metrics.json", **head, **runs_and_mean(records))


def make_sweep(folder, cells, keys=("method", "train_bags"), script="train_mil", wanted=None, **arguments):
    """Write a sweep. cells: {values of its keys: the records of its repeats}."""
    write_config(folder, script, COMMIT, arguments)
    done = sum(map(len, cells.values()))
    contents = [dict(zip(keys, values, strict=True)) | runs_and_mean(runs) for values, runs in cells.items()]
    head = {"device": DEVICE, "seconds": 80.0, "trainings": [done, wanted or done]}
    write_json(folder / "sweep.json", **head, cells=contents)


def classifier_records(accuracies, seconds=60.0):
    """The records of `train_cnn.py`, one per accuracy."""
    records = []
    for seed, share in enumerate(accuracies):
        interval = {"test_accuracy_low": share - 0.002, "test_accuracy_high": share + 0.0017}
        head = {"seed": seed, "train_images": 54000, "seconds": seconds}
        records.append({**head, "test_accuracy": share, **interval})
    return records


def bag_records(auc):
    return [{"seed": seed, "seconds": 20.0, "test_auc": auc + 0.001 * seed} for seed in (-1, 1)]


def study_records(*accuracies):
    """The records of a cell of `train_few_labels.py`."""
    shared = {"train_images": 54000, "seconds": 30.0, "shared_seconds": 20.0}
    return [{"seed": seed, "test_accuracy": value, **shared} for seed, value in enumerate(accuracies)]


def library_record(gain, p):
    """A record of `ensemble.py`, whose greedy selections gain on the average."""
    record = {"seed": 0, "train_images": 54000, "test_accuracy": 0.99, "seconds": 60.0}
    for name in COMBINATIONS:
        own = gain if name.startswith("greedy") else 0.0
        values = {"accuracy": 0.99 + own, "gain": own, "mcnemar_p": p, "loss": 0.03, "ece": 0.01}
        values |= {"scaled_loss": 0.02, "scaled_ece": 0.005}
        record |= {f"{name}_test_{key}": value for key, value in values.items()}
    return {**record, "mean_single_test_accuracy": 0.98, "oracle_test_accuracy": 0.999}


def make_tree(folder):
    """Write README.md and results/: runs and sweeps of every script, dry runs, a benchmark."""
    results = folder / "results"
    lists = {key: CONTENT[key] for key in ("references", "tables")}
    write_lists(results, *CONTENT["experiments"], **lists)
    make_run(results / "cnn/wide", classifier_records([0.9974, 0.9976, 0.9978], 1200), model="wide")
    make_run(results / "cnn/fast", classifier_records([0.99], 7.4), model="fast", val_fraction=0.1)
    make_run(results / "cnn/old", classifier_records([0.9, 0.8]), model="cnn", labels_per_class=10)
    make_run(results / "cnn/tried", classifier_records([0.123]), dry_run=True)
    make_run(results / "cnn/dry-run-2", classifier_records([0.123]))
    records = [library_record(0.001, 0.04), library_record(0.002, 0.5)]
    make_run(results / "ensemble/ten", records, "ensemble", sources=["a"], val_fraction=0.1)
    draws = ([0.8, 0.9], [0.94, 0.96])
    records = [{**CONTENT["simclr"], "test_linear_10_accuracies": values} for values in draws]
    make_run(results / "simclr/simclr", records, "train_simclr", method="simclr")
    (results / "simclr/simclr/map.csv").write_text("digit,x,y,pixels_x,pixels_y\n7,0.5,2,3,4\n")
    for name in ("stroke", "affine"):
        make_run(results / "simclr" / name, [CONTENT["simclr"]], "train_simclr", method="simclr")
    study = {"keys": ("method", "labels"), "script": "train_few_labels", "encoders": [f"simclr={STROKE}"]}
    cells = {("pixels-knn", 10): study_records(0.5, 0.5), ("pixels-knn", 100): study_records(0.69, 0.71)}
    cells[("simclr-spread", 100)] = study_records(0.97, 0.99)
    make_sweep(results / "few_labels/hundred", cells, **study, wanted=8)
    make_sweep(results / "few_labels/more", {("pixels-knn", 10): study_records(0.6, 0.6, 0.6)}, **study)
    make_run(results / "triplet/few", [CONTENT["triplet"]] * 2, "train_triplet")
    bags = {("mean", 50): bag_records(0.8), ("max", 50): bag_records(0.9), ("max", 100): bag_records(0.95)}
    make_sweep(results / "mil/sweep", bags, builder="balanced", val_bags=200)
    arguments = {"builder": "natural", "train_bags": 50, "encoder": STROKE, "method": "max"}
    make_run(results / "mil/frozen", bag_records(0.99), "train_mil", **arguments)
    make_run(results / "robustness/models", [CONTENT["robustness"]], "robustness")
    write_json(results / "benchmarks/fast.json", **CONTENT["benchmark"])
    (folder / "README.md").write_text(README)
    return folder
