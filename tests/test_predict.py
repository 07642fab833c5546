"""predict.py end to end: pictures, folders, globs, formats of the output, models of every kind, bad input."""

import csv
import io
import json
import shutil

import numpy as np
import pytest
import torch
from helpers import FACTS
from PIL import Image

import ensemble
import predict
import train_cnn
from data import load
from evaluation.cnn import scale
from inference import Predictor, ensemble_predictor, load_predictor
from inference.predictor import BUNDLED, Scores
from models import create, read_model, save_model
from utils.runs.folder import RunFolder

DIGITS = load("mnist-5k", "")[1]


def picture(*indices, scale=4):
    """Test digits side by side, dark on light, enlarged."""
    row = np.concatenate([DIGITS.images[i, 0].numpy() for i in indices], 1)
    return Image.fromarray(255 - row).resize((row.shape[1] * scale, row.shape[0] * scale))


def label(*indices):
    return "".join(str(int(DIGITS.labels[i])) for i in indices)


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    """The folder of results with a short run cnn/lenet, and ensemble/pair of two linear members."""
    folder = tmp_path_factory.mktemp("results")
    where = ["--dataset", "mnist-5k", "--results-dir", str(folder), "--device", "cpu", "--quiet"]
    where += ["--precision", "fp32"]
    with pytest.MonkeyPatch.context() as patch:
        for script in (train_cnn, ensemble):
            patch.setattr(script, "plot_figures", lambda *args: None)
        train_cnn.main([*where, "--model", "lenet", "--augment", "none", "--epochs", "4", "--name", "lenet"])
        small = ["--members", "2", "--model", "linear", "--epochs", "1", "--name", "pair"]
        ensemble.main([*where, *small])
    return folder


@pytest.fixture(scope="module")
def model(results):
    return str(results / "cnn" / "lenet")


@pytest.fixture
def pictures(tmp_path):
    """A folder of ten pictures of one digit, 0.png to 9.png, and of a number."""
    folder = tmp_path / "scans"
    folder.mkdir()
    for i in range(10):
        picture(i).save(folder / f"{i}.png")
    return folder


def run(*words):
    return predict.main([str(word) for word in words])


def test_a_folder_is_read_picture_by_picture(pictures, model, capsys):
    found = run(pictures, "--model", model)
    assert [result.path for result in found] == [str(pictures / f"{i}.png") for i in range(10)]
    assert sum(result.text == label(i) for i, result in enumerate(found)) >= 9
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 10
    for line, result in zip(lines, found, strict=True):
        answer = result.answers[0]
        assert result.path in line
        assert f"{answer.label} {answer.probability:.1%} (or {answer.runner_up} " in line


def test_globs_and_formats_of_pictures(tmp_path, model):
    for format in ("png", "jpg", "bmp", "tif"):
        picture(0).save(tmp_path / f"seven.{format}")
    found = run(str(tmp_path / "*.*"), "--model", model)
    assert len(found) == 4
    assert {result.text for result in found} == {label(0)}


def test_a_number_is_read_digit_by_digit_unless_it_is_said_to_be_one(tmp_path, model):
    chosen = [i for i in range(40) if load_predictor(model).predict(picture(i))[0].label == label(i)][:4]
    picture(*chosen).save(tmp_path / "number.png")
    assert run(tmp_path / "number.png", "--model", model)[0].text == label(*chosen)
    assert len(run(tmp_path / "number.png", "--model", model, "--single")[0].answers) == 1


def test_probabilities_are_softmax_of_logits_over_the_temperature(model):
    predictor, saved = load_predictor(model), read_model(f"{model}/best.pt")
    p, _ = predictor.scores(DIGITS.images[:100, 0].numpy())
    pixels = (DIGITS.images[:100] / 255 - saved.data["mean"]) / saved.data["std"]
    with torch.no_grad():
        logits = saved.model.eval()(pixels)
    expected = (logits / saved.data["calibration"]["temperature"]).softmax(1)
    np.testing.assert_allclose(p, expected, atol=1e-5)


def test_json_has_one_object_a_line(tmp_path, model, capsys):
    picture(0, 1).save(tmp_path / "a.png")
    (tmp_path / "b.png").write_bytes(b"")
    with pytest.raises(SystemExit):
        run(tmp_path, "--model", model, "--json")
    first, second = map(json.loads, capsys.readouterr().out.splitlines())
    assert first["text"] == "".join(digit["label"] for digit in first["digits"])
    assert len(first["digits"]) == 2
    for digit, left in zip(first["digits"], (0, 112), strict=True):
        assert 0.1 < digit["probability"] <= 1
        assert digit["probability"] + digit["runner_up_probability"] <= 1 + 1e-6
        assert left <= digit["box"][0] < digit["box"][2] <= left + 112
    assert "not a picture" in second["error"]


def test_csv_has_one_line_a_digit(tmp_path, model, capsys):
    picture(0, 1).save(tmp_path / "a.png")
    found = run(tmp_path / "a.png", "--model", model, "--csv")
    rows = list(csv.DictReader(io.StringIO(capsys.readouterr().out)))
    assert [row["position"] for row in rows] == ["0", "1"]
    assert [row["label"] for row in rows] == [answer.label for answer in found[0].answers]


def test_images_unlike_digits_are_doubted_more_often(model):
    images = DIGITS.images[:300, 0].numpy()
    crossed = np.maximum(images, np.rot90(images, axes=(1, 2)))
    doubted = [
        np.mean([answer.warning is not None for answer in load_predictor(model).answer(some)])
        for some in (images, crossed)
    ]
    assert doubted[0] < 0.04
    assert doubted[1] > 3 * doubted[0]


def test_doubt_is_shown(tmp_path, pictures, capsys, monkeypatch):
    def foreign(images):
        count = len(images.labels)
        return Scores(np.tile([0.7, 0.2, 0.1], (count, 1)), np.arange(count) == 0)

    empty = DIGITS._replace(classes=("a", "b", "c"))
    monkeypatch.setattr(predict, "load_predictor", lambda *_: Predictor("fake", empty, foreign, 0.8))
    found = run(pictures)
    warnings = [result.answers[0].warning for result in found]
    assert warnings == ["unlike the training images", *["low confidence"] * 9]
    lines = capsys.readouterr().out.splitlines()
    assert "a? a 70.0% (or b 20.0%)  [unlike the training images]" in lines[0]


def large(image):
    return Image.fromarray(image).resize((280, 280), Image.Resampling.BICUBIC)


def shifted(image):
    sheet = Image.new("L", (500, 400))
    sheet.paste(large(image), (180, 30))
    return sheet


def on_grey_paper(image):
    grain = np.random.default_rng(int(image.sum())).normal(0, 5, (280, 280))
    return Image.fromarray((190 - 0.6 * np.asarray(large(image)) + grain).clip(0, 255).astype(np.uint8))


DRAWN = {
    "large": large,
    "inverted": lambda image: Image.fromarray(255 - np.asarray(large(image))),
    "shifted": shifted,
    "grey paper": on_grey_paper,
}


def fall(predictor, images, labels, draw):
    """How many of the images are read wrong when they are drawn, less those that are wrong as they are."""
    drawn = np.stack([predictor.read(draw(image), single=True).digits[0] for image in images])
    right = [
        sum(answer.label == str(y) for answer, y in zip(predictor.answer(some), labels, strict=True))
        for some in (images, drawn)
    ]
    return right[0] - right[1]


@pytest.mark.parametrize("draw", DRAWN.values(), ids=DRAWN)
def test_drawn_digits_are_read_as_well_as_those_of_the_data_set(model, draw):
    images, labels = DIGITS.images[:100, 0].numpy(), DIGITS.labels[:100].tolist()
    assert fall(load_predictor(model), images, labels, draw) <= 2


@pytest.mark.slow
@pytest.mark.parametrize("draw", DRAWN.values(), ids=DRAWN)
def test_on_drawn_test_digits_the_accuracy_falls_by_less_than_0_3_points(mnist_dir, draw):
    _, test = load("mnist", mnist_dir)
    # How pictures are read was tuned on the first 2,000 test images, and looked at on the first 4,000.
    images, labels = test.images[4000:, 0].numpy(), test.labels[4000:].tolist()
    assert fall(load_predictor(), images, labels, draw) < 0.003 * 6000


BAD = {
    "missing.png": (None, "no such file"),
    "text.png": (b"hello", "not a picture"),
    "blank.png": (Image.new("L", (50, 50), 200), "blank"),
    "nothing*.jpg": (None, "no file matches"),
    "empty": ("folder", "no pictures"),
}


def test_bad_pictures_are_one_line_each_and_the_others_are_answered(tmp_path, pictures, model, capsys):
    names = []
    for name, (content, _) in BAD.items():
        path = tmp_path / name
        names.append(path)
        if content == "folder":
            path.mkdir()
        elif isinstance(content, bytes):
            path.write_bytes(content)
        elif content:
            content.save(path)
    with pytest.raises(SystemExit) as stop:
        run(names[0], pictures, *names[1:], "--model", model)
    assert stop.value.code == 2
    output, errors = capsys.readouterr()
    assert len(output.splitlines()) == 10
    assert len(errors.splitlines()) == len(BAD)
    for path, (_, said) in zip(names, BAD.values(), strict=True):
        assert any(str(path) in line and said in line for line in errors.splitlines())


def test_bad_models_are_one_line(tmp_path, pictures, results, capsys):
    (tmp_path / "damaged.pt").write_bytes(b"no weights")
    (tmp_path / "damaged.safetensors").write_bytes(b"no weights")
    save_model(tmp_path / "encoder.pt", create("fast", 0), "fast", FACTS, num_classes=0)
    save_model(tmp_path / "bare.pt", create("fast", 0), "fast", {}, num_classes=0)
    save_model(tmp_path / "mil.pt", create("fast", 0), "fast", {}, method="attention")
    (tmp_path / "run").mkdir()
    bad = {
        "damaged.pt": "not a model file",
        "damaged.safetensors": "not a model file",
        "encoder.pt": "--encoder",
        "bare.pt": "lacks classes, mean, std",
        "mil.pt": "does not hold",
        "run": "no best.pt",
        "missing.pt": "no such file",
    }
    for name, said in bad.items():
        with pytest.raises(SystemExit) as stop:
            run(pictures, "--model", tmp_path / name)
        assert stop.value.code == 2
        error = capsys.readouterr().err
        assert said in error
        assert len(error.splitlines()) == 1
    with pytest.raises(SystemExit):
        run(pictures, "--ensemble", results / "cnn" / "lenet")
    assert "not a finished run of ensemble.py" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ([], "no image"),
        (["x.png", "--model", "a", "--encoder"], "one of --model"),
        (["x.png", "--json", "--csv"], "one of --json"),
        (["--export", "x.zip"], "must end in .onnx, .pt2, .safetensors"),
    ],
)
def test_flags_that_contradict_are_refused(words, said, capsys):
    with pytest.raises(SystemExit) as stop:
        predict.main(words)
    assert stop.value.code == 2
    assert said in capsys.readouterr().err


def test_an_ensemble_gives_the_probabilities_that_its_run_saved(results):
    run = RunFolder(results / "ensemble" / "pair")
    record = run.read_json("metrics.json")["runs"][0]
    predictor = ensemble_predictor(run.folder)
    p, _ = predictor.scores(DIGITS.images[:, 0].numpy())
    expected = scale(run.predictions()["test_probabilities"], record["average_temperature"])
    np.testing.assert_allclose(p, expected, atol=1e-5)


def test_an_ensemble_without_validation_images_is_not_calibrated(tmp_path, results):
    folder = tmp_path / "ensemble" / "pair"
    shutil.copytree(results / "ensemble" / "pair", folder)
    run = RunFolder(folder)
    record = run.read_json("metrics.json")["runs"][0]
    del record["average_temperature"]
    run.write_json("metrics.json", {"runs": [record]})
    saved = run.predictions()
    run.save_predictions(**{key: values for key, values in saved.items() if key.startswith("test")})
    predictor = ensemble_predictor(folder)
    p, _ = predictor.scores(DIGITS.images[:, 0].numpy())
    np.testing.assert_allclose(p, saved["test_probabilities"], atol=1e-5)
    assert predictor.least_confidence == 0


def test_an_ensemble_with_several_libraries_answers_by_the_first(tmp_path, results):
    folder = tmp_path / "ensemble" / "pair"
    shutil.copytree(results / "ensemble" / "pair", folder)
    (folder / "seed-0").mkdir()
    (folder / "predictions.npz").rename(folder / "seed-0" / "predictions.npz")
    images = DIGITS.images[:20, 0].numpy()
    found, expected = (ensemble_predictor(f) for f in (folder, results / "ensemble" / "pair"))
    np.testing.assert_array_equal(found.scores(images).probabilities, expected.scores(images).probabilities)
    assert found.least_confidence == expected.least_confidence


def test_neighbours_on_an_encoder_read_digits(tmp_path, model):
    found = run(*pictures_of(tmp_path, 8), "--encoder", f"{model}/best.pt")
    assert sum(result.text == label(i) for i, result in enumerate(found)) >= 7


def pictures_of(folder, count):
    for i in range(count):
        picture(i).save(folder / f"{i}.png")
    return [folder / f"{i}.png" for i in range(count)]


def test_show_draws_what_the_network_sees(tmp_path, pictures, model):
    run(pictures, "--model", model, "--show", tmp_path / "seen.png")
    with Image.open(tmp_path / "seen.png") as figure:
        assert figure.width > 300


def test_export_in_half_precision_gives_the_same_answers(tmp_path, model):
    path = tmp_path / "small.safetensors"
    run("--model", model, "--export", path)
    assert path.stat().st_size < 0.6 * (tmp_path / model / "best.pt").stat().st_size
    images = DIGITS.images[:200, 0].numpy()
    whole, half = load_predictor(model).scores(images), load_predictor(path).scores(images)
    np.testing.assert_allclose(half.probabilities, whole.probabilities, atol=0.01)
    assert read_model(path).data == read_model(f"{model}/best.pt").data


def test_the_bundled_weights_are_small_and_described():
    sizes = {path.name: path.stat().st_size for path in BUNDLED.glob("*.safetensors")}
    assert sizes["classifier.safetensors"] <= 1_000_000
    assert sum(sizes.values()) <= 3_000_000
    card = (BUNDLED / "README.md").read_text()
    assert all(f"`{name}`" in card for name in sizes)


def test_the_bundled_classifier_reads_without_training_or_download(tmp_path, capsys):
    found = run(*pictures_of(tmp_path, 10))
    assert [result.text for result in found] == [label(i) for i in range(10)]


@pytest.mark.slow
def test_the_bundled_classifier_has_the_accuracy_of_its_card(mnist_dir):
    _, test = load("mnist", mnist_dir)
    p, _ = load_predictor().scores(test.images[:, 0].numpy())
    accuracy = (p.argmax(1) == test.labels.numpy()).mean()
    assert accuracy >= 0.995
    assert f"{accuracy:.2%}".replace("%", " %") in (BUNDLED / "README.md").read_text()
