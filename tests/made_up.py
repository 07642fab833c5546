"""Made-up results: runs, sweeps and benchmarks as the scripts write them, with a few known numbers."""

import json
import statistics

PNG = b"stands for a figure"
DEVICE = "Intel(R) Xeon(R), 2 threads"
SHARED = {"train_images": 54000, "seconds": 30.0, "shared_seconds": 20.0}  # of a few-label study


def write_json(path, **content):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps({"format": 1, **content}))


def make_run(folder, records, script="train_cnn", command="", history=(), commit="0123456789ab", **arguments):
    """Write the committed files of a run; means and deviations are taken over the records."""
    columns = {
        key: [record[key] for record in records]
        for key, value in records[0].items()
        if isinstance(value, int | float) and key != "seed"
    }
    many = len(records) > 1
    write_json(
        folder / "config.json",
        script=script,
        command=command or f"python {script}.py --model {arguments.get('model', folder.name)}",
        arguments={"dry_run": False, **arguments},
        commit=commit,
        versions={"python": "3.12.1"},
    )
    write_json(
        folder / "metrics.json",
        dataset=arguments.get("dataset", "mnist"),
        device=DEVICE,
        seconds=sum(record["seconds"] for record in records),
        runs=records,
        mean={key: statistics.fmean(column) for key, column in columns.items()},
        std={key: statistics.stdev(column) if many else None for key, column in columns.items()},
    )
    (folder / "history.jsonl").write_text("".join(json.dumps(line) + "\n" for line in history))
    (folder / "curves.png").write_bytes(PNG)


def classifier_records(accuracies, seconds=60.0, images=54000, epochs=10):
    """The records of `train_cnn.py`, one per accuracy."""
    return [
        {
            "seed": seed,
            "epochs": epochs,
            "train_images": images,
            "test_accuracy": accuracy,
            "test_accuracy_low": accuracy - 0.002,
            "test_accuracy_high": accuracy + 0.0017,
            "seconds": seconds,
        }
        for seed, accuracy in enumerate(accuracies)
    ]


def make_sweep(folder, means, command="python train_mil.py --sweep 50,100 --runs 2", **arguments):
    """Write sweep.json with two repeats a cell; means: {(method, training bags): AUC or None}."""
    cells = [
        {
            "method": method,
            "train_bags": bags,
            "runs": [
                {
                    "seed": seed,
                    "epochs": 5,
                    "seconds": 20.0,
                    **({} if mean is None else {"test_auc": mean + sign * 0.001}),
                }
                for seed, sign in ((100, -1), (101, 1))
            ],
            "mean": {"seconds": 20.0} | ({} if mean is None else {"test_auc": mean}),
            "std": {"seconds": 0.0} | ({} if mean is None else {"test_auc": 0.0014142}),
        }
        for (method, bags), mean in means.items()
    ]
    bags = {"target": 9, "builder": "balanced", "mean_length": 10, "std_length": 2, "val_bags": 200}
    recipe = {"batch_size": 16, "bags_per_epoch": 1800}
    write_json(
        folder / "config.json",
        script="train_mil",
        command=command,
        arguments={"dry_run": False, "dataset": "mnist", **bags, **recipe, **arguments},
        commit="0123456789ab",
    )
    head = {"command": command, "device": DEVICE, "seconds": 40.0 * len(means)}
    write_json(folder / "sweep.json", **head, trainings=[2 * len(means)] * 2, cells=cells)


def benchmark(name="fast", **changes):
    """The content of a benchmark's file."""
    return {
        "format": 1,
        "benchmark": name,
        "device": DEVICE,
        "commit": "0123456789ab",
        "what": "Seconds to 99 %.",
        "rows": [
            {"name": "ours", "unit": "s", "values": [7.0, 7.4, 8.0], "median": 7.4},
            {"name": "standard way", "unit": "s", "values": [1310.0, 300.0, 350.0], "median": 350.0},
        ],
        "ratios": [
            {
                "name": "standard way / ours",
                "value": 47.3,
                "low": 40.5,
                "high": 187.14,
                "target": 30,
                "standard": "a DataLoader and Adam",
            }
        ],
        **changes,
    }


def make_study(folder, means, **arguments):
    """Write a few-label study with two draws a cell; means: {(method, labels): accuracy}."""
    cells = [
        {
            "method": method,
            "labels": labels,
            "runs": [
                {"seed": seed, "test_accuracy": mean + sign * 0.01, **SHARED}
                for seed, sign in ((0, -1), (1, 1))
            ],
            "mean": {"test_accuracy": mean, **SHARED},
            "std": {"test_accuracy": 0.0141421},
        }
        for (method, labels), mean in means.items()
    ]
    command = "python train_few_labels.py --encoders simclr=results/simclr/stroke/encoder.pt"
    encoders = ["simclr=results/simclr/stroke/encoder.pt"]
    write_json(
        folder / "config.json",
        script="train_few_labels",
        command=command,
        arguments={"dry_run": False, "dataset": "mnist", "encoders": encoders, **arguments},
        commit="0123456789ab",
    )
    head = {"command": command, "device": DEVICE, "seconds": 60.0 * len(means)}
    write_json(folder / "sweep.json", **head, trainings=[2 * len(means)] * 2, cells=cells)
