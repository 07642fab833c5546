"""Seconds of one epoch of every recipe, alone on one CPU thread."""

import torch
from torch import nn

import train_cnn
import train_mil
import train_simclr
from benchmarks.measure import SameBatch, digits, one_thread, timed_training
from data import POLICIES, ImageSet, load, split
from data.bags import BagLoader
from models import ContrastiveModel, create
from models.mil import create_mil
from utils.runs.folder import FORMAT, device_name
from utils.training.classifier import ClassifierConfig, classifier_batches
from utils.training.config import RECIPES, FitConfig
from utils.training.fit import Batches, Step, classification_step

Data = tuple[ImageSet, ImageSet]
Training = tuple[nn.Module, Step, Batches, FitConfig]

WARM_UP_STEPS = 2


def epochs(data_dir, device, repeats=1, names=None):
    """Return the content of results/times.json: seconds of one training epoch, and epochs, of every recipe.

    names: keys of TRAININGS, by default all. An epoch is that of the script with default flags: 54,000
    training images, the rest validates; for MIL 1,800 bags. Timed are loading of batches, augmentation and
    steps, after a short warm-up; reading the files, validation and evaluation are apart. One epoch each,
    whatever `repeats` is: all take some six minutes.
    """
    data, recipes = load("mnist", data_dir, device), {}
    with one_thread():
        for name in names or TRAININGS:
            model, step, batches, config = TRAININGS[name](name, data, device)
            model = model.to(device).to(memory_format=torch.channels_last)
            train = timed_training(model, step, config, len(batches))
            train(SameBatch(next(iter(batches.epoch(0))), WARM_UP_STEPS))
            recipes[name] = {"seconds_per_epoch": digits(train(batches)), "epochs": config.epochs}
            print(f"epochs, {name}: {recipes[name]['seconds_per_epoch']:.1f} s", flush=True)
        return {"format": FORMAT, "device": device_name(device), "threads": 1, "recipes": recipes}


def classifier(name: str, data: Data, device: torch.device) -> Training:
    args = train_cnn.parse(["--model", name, "--device", device.type, "--quiet"])[0]
    config = ClassifierConfig.from_args(args, name, RECIPES[name])
    train_idx, _ = train_cnn.choose_images(args, data[0].labels, {"seed": 0})
    model = create(name)
    step = classification_step(model, config.label_smoothing)
    return model, step, classifier_batches(config, data[0], train_idx, seed=0), config.fit


def contrastive(method: str, data: Data, device: torch.device) -> Training:
    args = train_simclr.parse(["--method", method, "--device", device.type, "--quiet"])[0]
    train_idx, _ = split(data[0].labels, train_simclr.VAL_FRACTION, 0)
    model = ContrastiveModel(create(args.encoder, 0), args.head)
    step = train_simclr.contrastive_step(model, method, args.temperature)
    return model, step, train_simclr.make_views(args, data[0], train_idx, seed=0), FitConfig.from_args(args)


def bags(name: str, data: Data, device: torch.device) -> Training:
    args = train_mil.parse(["--device", device.type, "--quiet"])[0]
    train_bags, _, _ = train_mil.make_bags(args, data, {"seed": 0})
    options = {"augment": POLICIES[args.augment], "bags_per_epoch": args.bags_per_epoch}
    batches = BagLoader(data[0], train_bags, args.batch_size, **options)
    model = create_mil(args.model, args.method)
    return model, train_mil.mil_step(model, args.method), batches, FitConfig.from_args(args)


TRAININGS = {
    **dict.fromkeys(("linear", "mlp", "lenet", "cnn", "fast", "wide"), classifier),
    **dict.fromkeys(("simclr", "supcon"), contrastive),
    "mil": bags,
}
