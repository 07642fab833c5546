"""Times: what a number needed, counted once, measured alone where times.json has the epoch."""

from pathlib import Path

import pytest

from report.results import Collection, Experiment, Result
from report.times import Time, evaluation_parts, number_time, run_time


def result(key, records, history=(), **arguments):
    mean = {name: 0.0 for name, value in records[0].items() if isinstance(value, int | float)}
    metrics = {"runs": records, "mean": mean}
    return Result(Path("results") / key, {"arguments": arguments}, metrics, list(history))


def collection(*results, times=None, experiments=()):
    found = Collection(Path("results"), experiments=list(experiments), times=times or {})
    found.results = {result.key: result for result in results}
    return found


def records(*seconds, **more):
    return [{"seed": i, "epochs": 10, "seconds": s, **more} for i, s in enumerate(seconds)]


def test_texts():
    assert Time(90.0).text == "90 s"
    assert Time(90.0, bound=True, partial=True).text == "≤ 90 s + evaluation"
    assert Time(0.0).text == "none"
    assert Time(0.0, partial=True).text == "not timed"


def test_a_training_takes_the_median_of_its_runs_at_most():
    run = result("cnn/lenet", records(10.0, 30.0, 100.0))
    assert number_time(collection(run), run, "test_accuracy") == Time(30.0, bound=True)
    assert run_time(collection(run), run) == Time(140.0, bound=True)


def test_an_epoch_measured_alone_replaces_the_seconds_of_the_run():
    run = result("cnn/lenet", records(10.0, 30.0, 100.0))
    found = collection(run, times={"cnn/lenet": {"seconds_per_epoch": 0.5}})
    assert number_time(found, run, "test_accuracy") == Time(5.0)
    assert run_time(found, run) == Time(15.0)


def test_a_run_can_share_the_epoch_of_another_one():
    run = result("cnn/wide-shifts", records(100.0))
    alias = Experiment("wide-shifts", "python train_cnn.py", timed_as="cnn/wide")
    found = collection(run, times={"cnn/wide": {"seconds_per_epoch": 2.0}}, experiments=[alias])
    assert number_time(found, run, "test_accuracy") == Time(20.0)


def test_a_library_takes_all_epochs_of_all_members_by_their_models():
    history = [{"model": model} for model in ("mlp", "mlp", "lenet", "lenet", "lenet")]
    run = result("ensemble/pool", [{"seed": 0, "seconds": 500.0}], history, members=4, sources=None)
    alias = Experiment("pool", "python ensemble.py", timed_as="cnn/{model}")
    times = {"cnn/mlp": {"seconds_per_epoch": 1.0}, "cnn/lenet": {"seconds_per_epoch": 10.0}}
    assert number_time(collection(run, times=times, experiments=[alias]), run, "x") == Time(32.0)
    del times["cnn/mlp"]
    found = collection(run, times=times, experiments=[alias])
    assert number_time(found, run, "x") == Time(500.0, bound=True)


def test_a_selection_takes_its_pools_once_however_many_libraries_it_draws():
    pool = result("ensemble/pool", [{"seed": 0, "seconds": 500.0}], members=4, sources=None)
    sources = ["ensemble/pool", "ensemble/pool", "cnn/lenet/seed-1"]
    chosen = result("ensemble/ten", records(300.0, 310.0, 320.0), members=10, sources=sources)
    found = collection(pool, chosen, result("cnn/lenet", records(10.0, 30.0)))
    assert number_time(found, chosen, "test_accuracy") == Time(530.0, bound=True)
    assert run_time(found, chosen) == Time(0.0)


def test_a_selection_from_a_run_that_is_not_there_says_so():
    chosen = result("ensemble/ten", records(300.0), members=10, sources=["ensemble/gone"])
    assert number_time(collection(chosen), chosen, "test_accuracy") == Time(0.0, partial=True)


ENCODER = {
    "test_knn_accuracy": 0.9,
    "features_seconds": 1.0,
    "frozen_seconds": 2.0,
    "self_trained_1_seconds": 40.0,
}
ENCODER |= {"graph_seconds": 5.0, "random_frozen_seconds": 7.0, "train_seconds": 60.0}


def test_a_score_of_an_encoder_adds_the_parts_of_the_evaluation_that_it_needs():
    run = result("simclr/simclr", records(60.0, **ENCODER), encoder="compact")
    found = collection(run)
    assert number_time(found, run, "test_linear_accuracy") == Time(63.0, bound=True)
    assert number_time(found, run, "test_self_trained_1_accuracy") == Time(106.0, bound=True)
    assert number_time(found, run, "test_finetuned_accuracy") == Time(60.0, bound=True, partial=True)
    assert run_time(found, run) == Time(115.0, bound=True)


def test_a_random_encoder_takes_no_pre_training():
    run = result("simclr/simclr", records(60.0, **ENCODER), encoder="compact")
    assert number_time(collection(run), run, "test_random_linear_accuracy") == Time(7.0, bound=True)
    old = result("simclr/old", records(60.0, test_knn_accuracy=0.9), encoder="compact")
    assert number_time(collection(old), old, "test_random_linear_accuracy").text == "not timed"


def test_parts_measured_alone_replace_those_of_the_records():
    run = result("simclr/simclr", records(60.0, **ENCODER), encoder="compact")
    alone = {"seconds_per_epoch": 3.0, "features_seconds": 0.5, "frozen_seconds": 0.25}
    found = collection(run, times={"simclr/simclr": alone})
    assert number_time(found, run, "test_knn_accuracy") == Time(30.75)


def test_bags_on_an_encoder_add_its_pre_training_and_no_evaluation():
    base = result("simclr/simclr", records(60.0, 80.0, **ENCODER), encoder="compact")
    bags = result("mil/bags", records(5.0), encoder="results/simclr/simclr/seed-1/encoder.pt")
    assert number_time(collection(base, bags), bags, "test_auc") == Time(85.0, bound=True)


def test_a_member_that_is_a_probe_on_an_encoder_needs_its_evaluation():
    base = result("simclr/supcon", records(60.0, 80.0, **ENCODER), encoder="cnn")
    best = result("ensemble/best", records(1.0), sources=["simclr/supcon/seed-0"])
    assert number_time(collection(base, best), best, "test_accuracy") == Time(63.0, bound=True)


@pytest.mark.parametrize(
    ("metric", "parts"),
    [
        ("test_knn_accuracy", ["features", "frozen"]),
        ("test_finetuned_accuracy", ["features", "frozen", "finetuned"]),
        ("test_linear_10_accuracy", ["features", "frozen_10"]),
        ("test_finetuned_1_accuracy", ["features", "finetuned_1"]),
        ("test_self_trained_100_accuracy", ["features", "graph", "self_trained_100"]),
        ("test_kmeans_self_trained_accuracy", ["features", "graph", "kmeans", "kmeans_spread"]),
        ("test_random_finetuned_accuracy", ["random_frozen", "random_finetuned"]),
        ("test_pixels_linear_10_accuracy", ["pixels_frozen_10"]),
        ("test_auc", []),
    ],
)
def test_parts_of_the_evaluation(metric, parts):
    assert evaluation_parts(metric) == [f"{part}_seconds" for part in parts]
