"""Recipes: read, overridden, written back; mistakes are said in one line."""

from pathlib import Path

import pytest
import torch

from uprnet.errors import TrainingError
from uprnet.training.config import ComputeConfig, TrainingConfig, read_recipe, write_recipe
from uprnet.training.preparation import uses_winograd

RECIPES = sorted((Path(__file__).parents[2] / "recipes").glob("*.toml"))


@pytest.fixture
def recipe(tmp_path):
    def make(text):
        path = tmp_path / "recipe.toml"
        path.write_text(text)
        return path

    return make


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.stem)
def test_each_recipe_is_read_and_written_back_the_same(path, recipe):
    config = read_recipe(path)
    assert read_recipe(recipe(write_recipe(config))) == config


def test_an_empty_recipe_has_the_defaults(recipe):
    assert read_recipe(recipe("")) == TrainingConfig()


def test_the_paper_recipe_has_the_numbers_of_the_paper():
    for size in ("base", "large", "xlarge"):
        config = read_recipe(RECIPES[0].parent / f"vimeo90k-{size}.toml")
        optimizer, loss = config.optimizer, config.loss
        assert config.network.size == size
        assert (config.network.num_levels, config.data.crop, config.network.initialization) == (3, 256, "default")
        assert (optimizer.steps, optimizer.batch_size, optimizer.weight_decay) == (800_000, 32, 1e-4)
        assert (optimizer.learning_rate, optimizer.final_learning_rate, optimizer.warmup_steps) == (2e-4, 2e-5, 2_000)
        assert (loss.charbonnier, loss.census, loss.frame_decay) == (1, 1, 0)
        assert (loss.laplacian, loss.flow, loss.matching) == (0, 0, 0)
        assert config.data.triplets.list_file == "tri_trainlist.txt"


def test_options_replace_the_settings_of_the_recipe(recipe):
    path = recipe("[optimizer]\nsteps = 5\n[data.video]\nmax_stride = 2\n")
    options = "--optimizer.steps 7 --optimizer.learning-rate 1e-3 --data.video.root clips --compute.compile"
    config = read_recipe(path, [*options.split(), "--data.video.held-out", "a*", "--data.video.held-out", "b.mp4"])
    assert (config.optimizer.steps, config.optimizer.learning_rate) == (7, 1e-3)
    assert config.data.video.root == "clips"
    assert config.data.video.held_out == ("a*", "b.mp4")
    assert config.data.video.max_stride == 2
    assert config.compute.compile is True


@pytest.mark.parametrize(
    ("text", "options", "message"),
    [
        ("[optimizer]\nstep = 5", "", r"Unknown option: \"\[optimizer\]\[step\]\""),
        ("speed = 5", "", r"Unknown option: \"\[speed\]\""),
        ("[data.video]\nroots = 'x'", "", r"\[data\]\[video\]\[roots\].*Did you mean"),
        ("", "--data.vide.root x", "Unknown option: --data.vide.root"),
        ("[optimizer]\nsteps = 'many'", "", r"Invalid value for \[optimizer\]\[steps\].*unable to convert \"many\""),
        ("", "--optimizer.steps many", 'Invalid value for --optimizer.steps: unable to convert "many" into int'),
        ("[loss]\ncensus = -1.0", "", "loss.census must be at least 0, got -1.0"),
        ("[loss]\nflow_only = true", "", "give loss.flow or loss.matching a weight above 0"),
        ('[loss]\nfrozen = ["decoder"]', "", "loss.frozen may hold encoder, flow_estimator, synthesis, got decoder"),
        ('[loss]\nfrozen = ["encoder"]\nmatching = 0.1', "", "loss.matching has nothing to train"),
        (
            '[loss]\nfrozen = ["encoder", "flow_estimator"]\nflow = 0.1',
            "",
            "loss.flow has nothing to train: loss.frozen holds encoder, flow_estimator",
        ),
        ("[loss]\ncharbonnier = 0\ncensus = 0", "", "give a loss a weight above 0"),
        ("", "--optimizer.clip-norm -1", "optimizer.clip_norm must be at least 0, got -1"),
        ("", "--optimizer.learning-rate nan", "optimizer.learning_rate must be at least 0, got nan"),
        ("", "--optimizer.ema-decay 1.5", "optimizer.ema_decay must be below 1, got 1.5"),
        ("", "--seed -1", "^seed must be at least 0, got -1"),
        ("", "--data.crop 0", "data.crop must be at least 1, got 0"),
        ("", "--data.augmentation.padding -1", "data.augmentation.padding must be at least 0, got -1"),
        ("", "--data.augmentation.padding 128", "padding must be below data.crop, got 128 and 128"),
        ("", "--data.x4k.max-span 1", "data.x4k.max_span must be at least 2, got 1"),
        ("this is no toml", "", "TOMLDecodeError"),
    ],
)
def test_mistakes_are_said_in_one_line(recipe, text, options, message):
    with pytest.raises(TrainingError, match=message) as found:
        read_recipe(recipe(text), options.split())
    assert "\n" not in str(found.value)


def test_a_missing_recipe_is_named(tmp_path):
    with pytest.raises(TrainingError, match=r"there is no recipe .*nowhere.toml"):
        read_recipe(tmp_path / "nowhere.toml")


def test_winograd_is_used_where_it_can_be():
    cpu, gpu = torch.device("cpu"), torch.device("cuda")
    assert uses_winograd(ComputeConfig(), cpu)
    assert not uses_winograd(ComputeConfig(), gpu)
    assert not uses_winograd(ComputeConfig(precision="bf16"), cpu)
    assert not uses_winograd(ComputeConfig(engine="torch"), cpu)


@pytest.mark.parametrize(
    ("compute", "text"),
    [
        (ComputeConfig(engine="ncnn"), "compute.engine must be auto, numba or torch, got 'ncnn'"),
        (ComputeConfig(engine="numba", precision="bf16"), "got cpu, bf16 and false"),
        (ComputeConfig(engine="numba", compile=True), "got cpu, no and true"),
    ],
)
def test_an_engine_that_cannot_train_is_refused(compute, text):
    with pytest.raises(TrainingError, match=text):
        uses_winograd(compute, torch.device("cpu"))
