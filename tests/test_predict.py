"""predict.py end to end: pictures, folders, globs, formats of the output, models of every kind, bad input."""

import json
import shutil

import numpy as np
import pytest
import torch
from helpers import FACTS, refusal
from PIL import Image

import ensemble
import predict
from data import load
from data.robustness import unknown_images
from evaluation.cnn import scale
from inference import Predictor, load_predictor
from inference.export import Deployed
from inference.predictor import SYMBOLS, Scores, embedder
from models import create, read_model, save_model
from models.checkpoint import BUNDLED
from utils.runs.folder import RunFolder

DIGITS = load("mnist-5k", "")[1]
BUNDLED_CLASSIFIER = load_predictor()
CONSTANTS = {"temperature": 2, "least_confidence": 0.1, "least_evidence": 0.5}


def picture(*indices, scale=4):
    """Test digits side by side, dark on light, enlarged."""
    row = np.concatenate([DIGITS.images[i, 0].numpy() for i in indices], 1)
    return Image.fromarray(255 - row).resize((row.shape[1] * scale, row.shape[0] * scale))


def label(*indices):
    return "".join(str(int(DIGITS.labels[i])) for i in indices)


@pytest.fixture(scope="module")
def pair(tmp_path_factory):
    """The folder of a short run of ensemble.py: two linear members. "both" beside it combines them again."""
    folder = tmp_path_factory.mktemp("results")
    words = ["--dataset", "mnist-5k", "--results-dir", str(folder), "--device", "cpu", "--precision", "fp32"]
    trained = ["--members", "2", "--model", "linear", "--epochs", "1", "--name", "pair", "--quiet"]
    combined = ["--from", str(folder / "ensemble" / "pair"), "--name", "both", "--quiet"]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ensemble, "plot_figures", lambda *args: None)
        ensemble.main(words + trained)
        ensemble.main(words + combined)
    return folder / "ensemble" / "pair"


@pytest.fixture(scope="module")
def pictures(tmp_path_factory):
    """A folder of ten pictures of one digit, 0.png to 9.png. Read only."""
    folder = tmp_path_factory.mktemp("scans")
    for i in range(10):
        picture(i).save(folder / f"{i}.png")
    return folder


def run(*words):
    return predict.main([str(word) for word in words])


def error_line(capsys, *words):
    return refusal(predict.main, [str(word) for word in words], capsys)


# --- Pictures and output ---


def test_a_folder_is_read_by_the_bundled_classifier_and_shown(pictures, tmp_path, capsys):
    results = run(pictures, "--show", tmp_path / "seen.png")
    assert [result.path for result in results] == [str(pictures / f"{i}.png") for i in range(10)]
    assert [result.text for result in results] == [label(i) for i in range(10)]
    for line, result in zip(capsys.readouterr().out.splitlines(), results, strict=True):
        answer = result.answers[0]
        mark = "?" if answer.warning else " "
        assert line.startswith(f"{result.path}  {answer.label}{mark} {100 * answer.probability:.2f} %")
    with Image.open(tmp_path / "seen.png") as figure:
        assert figure.width > 300


def test_globs_formats_and_a_number_that_is_read_digit_by_digit_unless_it_is_said_to_be_one(tmp_path):
    for format in ("png", "jpg", "bmp", "tif"):
        picture(0, 1, 2, 3).save(tmp_path / f"number.{format}")
    assert [result.text for result in run(tmp_path / "*.*")] == [label(0, 1, 2, 3)] * 4
    assert len(run(tmp_path / "number.png", "--single")[0].answers) == 1
    picture(0).save(tmp_path / "a.gif", save_all=True, append_images=[picture(1)])
    assert run(tmp_path / "a.gif")[0].warnings == ["only the first of its pages or frames was read"]


def test_names_that_do_not_print_are_escaped(tmp_path, capsys):
    picture(0).save(tmp_path / "a\x1b[31m\udce9.png")
    assert run(tmp_path)[0].text == label(0)
    assert f"{tmp_path}/a\\x1b[31m\\udce9.png" in capsys.readouterr().out
    (tmp_path / "a\x1b[31m\udce9.png").write_bytes(b"")
    assert f"{tmp_path}/a\\x1b[31m\\udce9.png: not a picture" in error_line(capsys, tmp_path)


def test_json_has_one_object_a_line(tmp_path, capsys):
    picture(0, 1).save(tmp_path / "a.png")
    (tmp_path / "b.png").write_bytes(b"")
    with pytest.raises(SystemExit):
        run(tmp_path, "--json")
    first, second = map(json.loads, capsys.readouterr().out.splitlines())
    assert first["text"] == "".join(digit["label"] for digit in first["digits"])
    assert len(first["digits"]) == 2
    for digit, left in zip(first["digits"], (0, 112), strict=True):
        assert 0.1 < digit["probability"] <= 1 + 1e-6 - digit["runner_up_probability"]
        assert left <= digit["box"][0] < digit["box"][2] <= left + 112
    assert "not a picture" in second["error"]


def test_doubt_is_shown(pictures, capsys, monkeypatch):
    def foreign(images):
        count = len(images.labels)
        return Scores(np.tile([0.7, 0.2, 0.1], (count, 1)), np.arange(count) == 0)

    empty = DIGITS._replace(classes=("a", "b", "c"))
    monkeypatch.setattr(predict, "load_predictor", lambda *_: Predictor(empty, foreign, 0.8))
    warnings = [result.answers[0].warning for result in run(pictures)]
    assert warnings == ["not a digit?", *["low confidence"] * 9]
    lines = capsys.readouterr().out.splitlines()
    assert "a? 70.00 % (or b 20.00 %)  [not a digit?]" in lines[0]


@pytest.mark.parametrize("paper", [0, 255])
def test_a_submission_has_a_label_for_each_row_in_order_and_its_input_stays(tmp_path, paper, capsys):
    images = DIGITS.images[:40, 0].numpy()
    names, given = ",".join(f"pixel{i}" for i in range(784)), [tmp_path / "test.csv", tmp_path / "out.csv"]
    np.savetxt(
        given[0], abs(paper - images.reshape(40, -1).astype(int)), "%d", ",", header=names, comments=""
    )
    run("--submission", *given)
    best = BUNDLED_CLASSIFIER.scores(images).probabilities.argmax(1)
    assert given[1].read_text() == "ImageId,Label\n" + "".join(f"{i},{k}\n" for i, k in enumerate(best, 1))
    assert "it is read" in error_line(capsys, "--submission", given[0], given[0], "--overwrite")


# --- Pictures of one's own ---


def test_the_pictures_of_a_folder_are_ranked_by_their_likeness(pictures, tmp_path, capsys):
    run(pictures / "3.png", "--similar", pictures, "--show", tmp_path / "near.png")
    lines = [line.split("  ") for line in capsys.readouterr().out.splitlines()]
    run(pictures / "3.png", "--similar", pictures, "--json")
    (found,) = map(json.loads, capsys.readouterr().out.splitlines())
    reader = embedder("triplet")
    digits = [reader.read(Image.open(pictures / f"{i}.png"), True).digits for i in range(10)]
    features = torch.nn.functional.normalize(reader.scores(np.concatenate(digits)))
    distances, order = (1 - features @ features[3]).clamp(min=0).sort()
    assert [x["file"] for x in found["similar"]] == [str(pictures / f"{i}.png") for i in order]
    assert [x["distance"] for x in found["similar"]] == pytest.approx(distances.tolist(), abs=1e-4)
    assert lines == [[found["file"], f"{x['distance']:.4f}", x["file"]] for x in found["similar"]]
    assert (tmp_path / "near.png").read_bytes()[:4] == b"\x89PNG"


def test_a_gallery_recognises_by_one_example_of_each_class(tmp_path, capsys):
    zeros, ones = ((DIGITS.labels == value).nonzero().flatten().tolist() for value in (0, 1))
    examples, gallery = tmp_path / "who", tmp_path / "g.npz"
    (examples / "one").mkdir(parents=True)
    picture(ones[0]).save(examples / "one" / "x.png")
    picture(zeros[0]).save(examples / "none.png")
    for name in (".hidden.png", "notes.txt"):
        (examples / name).write_text("no picture")
    run("--enrol", examples, "--save", gallery)
    assert "2 pictures, 2 classes, by triplet.safetensors" in capsys.readouterr().out
    for i, n in enumerate([*zeros[1:5], *ones[1:5]]):
        picture(n).save(tmp_path / f"{i}.png")
    found = [result.text for result in run(tmp_path / "*.png", "--gallery", gallery)]
    assert found == ["none"] * 4 + ["one"] * 4

    asked = [tmp_path / "0.png", "--gallery", gallery]
    said = error_line(capsys, *asked, "--encoder", "simclr")
    assert "another model, triplet.safetensors, not this simclr" in said
    names, features, model = np.load(gallery).values()
    wrong = (names[:0], features[:0]), (names, features * np.nan), (names.astype("O"), features)
    for some, rows in (*wrong, (names, features[:1]), (names[:1], features[:1])):
        np.savez(gallery, names=some, features=rows, model=model)
        said = "only one class" if len(some) == len(rows) == 1 else "damaged, or not a gallery"
        assert said in error_line(capsys, *asked)
    gallery.write_bytes(gallery.read_bytes()[:300])
    assert "damaged, or not a gallery" in error_line(capsys, *asked)


# --- Bad input ---


def test_bad_pictures_are_one_line_each_and_the_others_are_answered(tmp_path, pictures, capsys):
    Image.new("L", (50, 50), 200).save(tmp_path / "blank.png")
    (tmp_path / "empty").mkdir()
    bad = {"blank.png": "blank", "nothing*.jpg": "no such file", "empty": "without pictures"}
    with pytest.raises(SystemExit) as stop:
        run(tmp_path / "blank.png", pictures, *(tmp_path / name for name in list(bad)[1:]))
    assert stop.value.code == 2
    output, errors = capsys.readouterr()
    assert len(output.splitlines()) == 10
    for line, (name, said) in zip(errors.splitlines(), bad.items(), strict=True):
        assert f"{tmp_path / name}: " in line
        assert said in line


def test_models_of_another_kind_are_one_line(tmp_path, pictures, pair, capsys):
    save_model(tmp_path / "bare.pt", create("fast", 0), "fast", {}, num_classes=0)
    assert "data.dataset is missing" in error_line(capsys, pictures, "--model", tmp_path / "bare.pt")
    assert "an encoder is for --similar" in error_line(capsys, pictures, "--model", SYMBOLS)
    (shutil.copytree(pair, tmp_path / "half") / "metrics.json").unlink()
    assert "not a finished run" in error_line(capsys, pictures, "--model", tmp_path / "half")
    assert "name a member" in error_line(capsys, "--model", pair, "--export", tmp_path / "x.pt2")


def test_flags_that_contradict_or_would_be_ignored_are_refused(capsys, monkeypatch):
    refused = {
        "": "no image",
        "x.png --model a --encoder b": "--encoder is for --similar",
        "x.png --gallery g.npz --model a": "not allowed with argument --gallery",
        "--enrol a": "--enrol needs --save",
        "x.png --enrol a --save g.npz": "--enrol takes no other pictures",
        "x.png --similar a --single": "without --single",
        "--export x.onnx --device mps": "this machine has none",
        "x.png --export x.onnx --similar a": "also an encoder",
        "--export x.onnx --show x.png": "no image",
        "x.png --overwrite": "--overwrite is for what is written",
    }
    for words, said in refused.items():
        assert said in error_line(capsys, *words.split())
    monkeypatch.setattr("sys.stdout", None)  # as python does for `>&-`
    assert "standard output is closed" in error_line(capsys, "x.png", "--json")


def test_a_file_is_written_only_where_nothing_or_a_file_to_overwrite_is(tmp_path, pictures, capsys):
    model = shutil.copy(BUNDLED / "classifier.safetensors", tmp_path / "m.safetensors")
    seven, old = shutil.copy(pictures / "0.png", tmp_path / "7.png"), tmp_path / "old.png"
    old.write_text("old")
    (tmp_path / "device.png").symlink_to("/dev/null")
    refused = {
        ("--show", "/"): "must end in .png",
        ("--show", tmp_path / "x.unknown"): "must end in .png",
        ("--show", tmp_path / "device.png", "--overwrite"): "not a regular file",
        ("--show", tmp_path / "nowhere" / "x.png"): "in a folder that exists",
        ("--show", old): "add --overwrite",
        ("--show", seven, "--overwrite"): "it is read",
        ("--export", model, "--overwrite"): "it is read",
        ("--export", tmp_path / "x.zip"): "must end in .onnx, .pt2, .safetensors",
        ("--export", "/proc/x.pt2"): "/proc/x.pt2: ",
    }
    before = {path: path.read_bytes() for path in tmp_path.iterdir()}
    for words, said in refused.items():
        assert said in error_line(capsys, seven, "--model", model, *words)
    assert {path: path.read_bytes() for path in tmp_path.iterdir()} == before
    run(seven, "--show", old, "--overwrite")
    with Image.open(old) as figure:
        assert figure.format == "PNG"


def test_predict_takes_a_path_an_array_or_a_picture_and_nothing_else(pictures):
    with Image.open(pictures / "0.png") as opened:
        kinds = [pictures / "0.png", str(pictures / "0.png"), opened, np.asarray(opened.convert("RGB"))]
        assert [BUNDLED_CLASSIFIER.predict(kind)[0].label for kind in kinds] == [label(0)] * 4
    for wrong in (7, b"", np.zeros((28, 28)), np.zeros((2, 2, 2), np.uint8), torch.zeros(28, 28)):
        with pytest.raises(TypeError, match="expected a path, a PIL image or an array of uint8"):
            BUNDLED_CLASSIFIER.predict(wrong)


# --- Models ---


@pytest.mark.parametrize("facts", [{}, {"calibration": CONSTANTS}], ids=["plain", "calibrated"])
def test_probabilities_are_softmax_of_logits_over_the_temperature(tmp_path, facts):
    model = create("linear").eval()
    save_model(tmp_path / "best.pt", model, "linear", {**FACTS, **facts})
    scores = load_predictor(tmp_path).scores(DIGITS.images[:100, 0].numpy())
    with torch.no_grad():
        logits = model((DIGITS.images[:100] / 255 - FACTS["mean"]) / FACTS["std"])
    np.testing.assert_allclose(scores.probabilities, (logits / (2 if facts else 1)).softmax(1), atol=1e-5)
    low = (logits.amax(1) < CONSTANTS["least_evidence"]).numpy()
    assert np.array_equal(scores.foreign, low if facts else np.zeros(100, bool))
    exported = Deployed(read_model(tmp_path / "best.pt"))(DIGITS.images[:100])[0]
    np.testing.assert_allclose(exported, scores.probabilities, atol=1e-5)


def test_most_images_of_no_digit_are_marked():
    kinds = {"digits": DIGITS, **unknown_images(DIGITS, "")}
    scores = {name: BUNDLED_CLASSIFIER.scores(kind.images[:300, 0].numpy()) for name, kind in kinds.items()}
    marked = {name: score.foreign.mean() for name, score in scores.items()}
    assert marked["digits"] < 0.02
    assert min(marked["letters"], marked["symbols"]) > 0.75
    assert marked["noise"] == 1


PAPERS = {"inverted": (-1.0, 255, 0), "light ink": (1.0, 0, 0), "grey paper": (-0.6, 190, 5)}


def wrong_when_drawn(images, labels, ink, paper, grain):
    """How many more of the images are read wrong when they are drawn large in a corner of a sheet."""
    rng, digits = np.random.default_rng(0), []
    for image in images:
        large = np.asarray(Image.fromarray(image).resize((280, 280), Image.Resampling.BICUBIC))
        values = paper + ink * np.pad(large, ((0, 120), (220, 0))) + grain * rng.normal(size=(400, 500))
        picture = Image.fromarray(values.clip(0, 255).astype(np.uint8))
        digits.append(BUNDLED_CLASSIFIER.read(picture, single=True).digits[0])
    plain, drawn = (BUNDLED_CLASSIFIER.scores(array).probabilities for array in (images, np.stack(digits)))
    return int((plain.argmax(1) == labels).sum() - (drawn.argmax(1) == labels).sum())


@pytest.mark.parametrize("sheet", PAPERS.values(), ids=PAPERS)
def test_digits_drawn_large_in_a_corner_are_read_as_well_as_those_of_the_data_set(sheet):
    assert wrong_when_drawn(DIGITS.images[:60, 0].numpy(), DIGITS.labels[:60].numpy(), *sheet) <= 1


@pytest.mark.slow
@pytest.mark.parametrize("sheet", PAPERS.values(), ids=PAPERS)
def test_on_drawn_test_digits_the_accuracy_falls_by_less_than_0_3_points(mnist_dir, sheet):
    _, test = load("mnist", mnist_dir)
    # How pictures are read was tuned on the first 2,000 test images, and looked at on the first 4,000.
    assert wrong_when_drawn(test.images[4000::10, 0].numpy(), test.labels[4000::10].numpy(), *sheet) < 2


def test_an_ensemble_gives_the_probabilities_that_its_run_saved(pair, pictures):
    run_folder = RunFolder(pair)
    record, saved = run_folder.read_json("metrics.json")["runs"][0], run_folder.predictions()
    predictor = load_predictor(pair)
    p, _ = predictor.scores(DIGITS.images[:, 0].numpy())
    expected = scale(saved["test_probabilities"], record["average_temperature"])
    np.testing.assert_allclose(p, expected, atol=1e-5)
    confidence = scale(saved["val_probabilities"], record["average_temperature"]).max(1)
    assert predictor.least_confidence == pytest.approx(np.quantile(confidence, 0.005), abs=1e-5)
    for folder in (pair, pair.parent / "both"):
        assert len(run(pictures / "0.png", "--model", folder)[0].answers) == 1


def test_an_ensemble_without_validation_images_is_not_calibrated(tmp_path, pair):
    copy = shutil.copytree(pair, tmp_path / "ensemble" / "pair")
    record = RunFolder(copy).read_json("metrics.json")["runs"][0]
    del record["average_temperature"]
    RunFolder(copy).write_json("metrics.json", {"runs": [record]})
    for part in map(RunFolder, copy.glob("member-*")):
        part.save_predictions(**{k: v for k, v in part.predictions().items() if k.startswith("test")})
    predictor = load_predictor(copy)
    p, _ = predictor.scores(DIGITS.images[:, 0].numpy())
    np.testing.assert_allclose(p, RunFolder(copy).predictions()["test_probabilities"], atol=1e-5)
    assert predictor.least_confidence == 0


def test_export_in_half_precision_gives_the_same_answers(tmp_path, pair):
    path, file = tmp_path / "small.safetensors", pair / "member-0" / "best.pt"
    run("--model", pair / "member-0", "--export", path)
    assert path.stat().st_size < 0.6 * file.stat().st_size
    images = DIGITS.images[:200, 0].numpy()
    whole, half = load_predictor(file).scores(images), load_predictor(path).scores(images)
    np.testing.assert_allclose(half.probabilities, whole.probabilities, atol=0.01)
    assert read_model(path).data == read_model(file).data


@pytest.mark.slow
def test_the_bundled_classifier_has_the_accuracy_of_its_card(mnist_dir):
    _, test = load("mnist", mnist_dir)
    p, marked = BUNDLED_CLASSIFIER.scores(test.images[:, 0].numpy())
    letters = BUNDLED_CLASSIFIER.scores(unknown_images(test, "")["letters"].images[:, 0].numpy()).foreign
    card = (BUNDLED / "README.md").read_text().replace(" %", "%")
    for share in ((p.argmax(1) == test.labels.numpy()).mean(), marked.mean()):
        assert f"{share:.2%}" in card
    assert f"{letters.mean():.1%}" in card
