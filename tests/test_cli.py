import json
import subprocess
import sys
from inspect import signature

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

import mirl
from command import mirl_command, mirl_process
from dataset import photo, write_dataset
from mirl.cli import app
from mirl.cli.common import one_line
from mirl.lottery import Experiment
from recipes import RECIPE

SIZES = [
    *["--dim", "8", "--num-blocks", "1", "1", "1", "1", "--num-refinement-blocks", "1"],
    *["--prompt-dims", "8", "16", "40", "--prompt-sizes", "8", "4", "2"],
]
PUBLISHED = [(name, each.default) for name, each in signature(mirl.PromptIR).parameters.items()]


@pytest.fixture
def folder(tmp_path):
    return write_dataset(tmp_path / "data")


@pytest.fixture
def network(small, tmp_path):
    mirl.prune(small, 0.5)
    small.save(tmp_path / "network.safetensors")
    return tmp_path / "network.safetensors"


def test_version_and_help():
    assert mirl_command("--version").strip() == f"mirl {mirl.__version__}"
    listing = mirl_command("--help")
    for command in (
        *("demo", "train", "sweep", "report", "evaluate", "restore", "degrade", "inspect"),
        *("export", "bench"),
    ):
        assert f"\n  {command} " in listing
        assert "--help" in mirl_command(command, "--help")


def train(folder, out, *more):
    return mirl_command(
        *["train", folder, "-o", out, "--rounds", 1, "--epochs", 1, "--batch-size", 2],
        *["--patch-size", 16, "--lr", 1e-3, "--amount", 0.5, "--quiet", *SIZES, *more],
    )


def test_train_writes_a_run_and_resumes_it(folder, tmp_path):
    out = tmp_path / "run"
    table = train(folder, out)
    records = [json.loads(line) for line in (out / "record.jsonl").read_text().splitlines()]
    assert [record["round"] for record in records] == [0, 1]
    assert records[1]["density_prunable"] == pytest.approx(0.5, abs=1e-4)
    assert set(records[0]["metrics"]) == {f"denoise_{s}" for s in (15, 25, 50)} | {
        "derain",
        "dehaze",
    }
    assert "50.0" in table
    assert "input unchanged" in table
    ticket = mirl.load(out / "ticket.mirl.safetensors")
    assert ticket.density().prunable == pytest.approx(0.5, abs=1e-4)
    steps = (out / "steps.jsonl").read_bytes()
    # Nothing is left to do, and nothing is done.
    assert train(folder, out) == table
    assert (out / "steps.jsonl").read_bytes() == steps


def said(options):
    """Options of the command line, by the names of the arguments."""
    for name, value in options.items():
        yield f"--{name.replace('_', '-')}"
        if value is not True:
            yield from value if isinstance(value, list) else [value]


def test_options_of_train_are_settings(folder, tmp_path, monkeypatch):
    made = []

    def stop(experiment, out, **_):
        made.append(experiment)
        raise OSError("stop")

    monkeypatch.setattr(Experiment, "run", stop)
    ticket = {
        **{"rounds": 3, "amount": 0.3, "scope": "erk", "epochs": 5, "lr": 1e-3},
        **{"warmup_epochs": 2.0, "clip_grad_norm": 0.5, "preset": "paper-code"},
        **{"precision": "bfloat16"},
    }
    data = {"batch_size": 3, "patch_size": 24, "augment": "none", "on_error": "skip"}
    network = {
        **{"dim": 16, "num_blocks": [1, 2, 1, 1], "num_refinement_blocks": 2},
        **{"heads": [2, 2, 4, 8], "prompt_dims": [8, 16, 40], "prompt_sizes": [8, 4, 2]},
    }
    others = {"seed": 9, "device": "cuda"}
    tasks = ["--task", "derain", "--synthesize", "derain"]
    named = {"network": "PromptIR"}
    options = said(ticket | data | named | network | others | {"recompute": True})
    for more in ([*options, *tasks], []):
        with pytest.raises(OSError, match="stop"):
            mirl_command("train", folder, "-o", tmp_path / "run", *more)
    asked, default = made
    assert asked.ticket == ticket | {"recompute": "block"}
    derain = {"root": str(folder), "tasks": ["derain"]}
    assert asked.data == data | derain | {"synthesize": ["derain"]}
    assert asked.evaluate == derain
    assert asked.network == {"name": "PromptIR"} | network
    assert (asked.seed, asked.device) == (9, "cuda")
    # As published, but for patches, of which the paper has 128 and its code 64.
    assert (default.ticket["rounds"], default.ticket["epochs"]) == (15, 120)
    assert (default.ticket["amount"], default.ticket["lr"]) == (0.2, 2e-4)
    assert (default.data["batch_size"], default.data["patch_size"]) == (8, 128)
    sizes = {name: list(size) if isinstance(size, tuple) else size for name, size in PUBLISHED}
    assert default.network == {"name": "PromptIR"} | {name: sizes[name] for name in network}


def test_another_network_is_trained_by_its_name(folder, tmp_path, monkeypatch):
    made = []
    monkeypatch.setattr(Experiment, "run", lambda experiment, out, **_: made.append(experiment))
    run = ("train", folder, "-o", tmp_path / "run", "--network")
    with pytest.raises(AttributeError):  # of None, which is no result
        mirl_command(*run, "Restormer", "--dim", 16)
    assert made[0].network["name"] == "Restormer"
    assert "prompt_dims" not in made[0].network
    with pytest.raises(ValueError, match=r"unknown in network \(of Restormer\): prompt_dims"):
        mirl_command(*run, "Restormer", "--prompt-dims", 8, 16, 40)
    with pytest.raises(ValueError, match=r"network\.name must be .*'Restormer'.*got 'Other'"):
        mirl_command(*run, "Other")
    recipe = tmp_path / "recipe.toml"
    recipe.write_text('[data]\nroot = "."\n')
    with pytest.raises(ValueError, match=r"--set 'network\.name=\"Restormer\"'"):
        mirl_command("train", recipe, "-o", tmp_path / "run", "--network", "Restormer")


@pytest.mark.parametrize(
    ("command", "place", "function", "options"),
    [
        (
            ["restore", "a.png", "-o", "out", "--quiet"],
            "mirl",
            "restore_files",
            {"tile": 16, "overlap": 4, "batch_size": 3, "force": True},
        ),
        (
            ["degrade", "a.png", "-o", "out", "--task", "mine", "--by", "blur:1", "--quiet"],
            "mirl.data",
            "write_pairs",
            {"split": "test", "name": "set", "seed": 5, "force": True},
        ),
    ],
    ids=["restore", "degrade"],
)
def test_options_are_arguments(network, monkeypatch, command, place, function, options):
    asked = []

    def stop(*_, **arguments):
        asked.append(arguments)
        raise OSError("stop")

    monkeypatch.setattr(sys.modules[place], function, stop)
    model = ["-m", network] if command[0] == "restore" else []
    with pytest.raises(OSError, match="stop"):
        mirl_command(*command, *model, *said(options))
    by = {"degradation": "blur:1"} if command[0] == "degrade" else {}
    assert asked == [options | by | {"progress": False}]


def test_train_without_pairs_or_measuring(folder, tmp_path):
    for task in ("derain", "dehaze"):
        (folder / "train" / task).rename(folder / task)
    options = ("--synthesize", "derain", "--synthesize", "dehaze", "--no-evaluate")
    table = train(folder, tmp_path / "run", *options)
    assert "loss" in table
    assert "PSNR" not in table


def test_what_is_trained_is_measured(folder, tmp_path):
    for split in ("train", "test"):
        (folder / split / "derain").rename(folder / split / "mine")
        for part, ending in (("target", "_gt"), ("input", "_rainy")):
            (file,) = (folder / split / "mine" / "Pairs" / part).iterdir()
            file.rename(file.with_stem(file.stem.removesuffix(ending)))
    tasks = ("--task", "mine", "--task", "jpeg:20", "--task", "dehaze")
    table = train(folder, tmp_path / "run", *tasks)
    assert [word for word in ("mine", "jpeg", "haze") if word not in table] == []
    assert "15" not in table.splitlines()[0]
    (folder / "test" / "mine").rename(folder / "elsewhere")
    with pytest.raises(FileNotFoundError, match=r"test/mine: no such folder.*--no-evaluate"):
        train(folder, tmp_path / "other", *tasks)
    assert not (tmp_path / "other").exists()
    # Of the published tasks, what there is.
    assert "haze" in train(folder, tmp_path / "one", "--task", "denoise", "--task", "dehaze")


def test_what_train_lacks_is_told_in_its_options(folder, tmp_path):
    with pytest.raises(FileNotFoundError, match=r"nope: no such folder$"):
        train(tmp_path / "nope", tmp_path / "run")
    (folder / "train" / "derain").rename(folder / "elsewhere")
    with pytest.raises(FileNotFoundError, match=r"train/derain: .*--task .*--synthesize derain"):
        train(folder, tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_a_damaged_test_image_is_found_before_training(folder, tmp_path):
    (image,) = (folder / "test/dehaze/Pairs/input").iterdir()
    image.write_bytes(image.read_bytes()[:-100])
    with pytest.raises(mirl.errors.FormatError, match=r"one_hazy\.png"):
        train(folder, tmp_path / "run")
    assert not (tmp_path / "run" / "steps.jsonl").exists()


def test_train_does_not_mix_runs(folder, tmp_path):
    train(folder, tmp_path / "run", "--no-evaluate")
    with pytest.raises(ValueError, match=r"another run: recipe\.lr is 0\.001 there and 0\.0005"):
        train(folder, tmp_path / "run", "--no-evaluate", "--lr", 5e-4)


@pytest.fixture
def recipe(folder):
    sizes = "dim = 8\nnum_blocks = [1, 1, 1, 1]\nnum_refinement_blocks = 1\n"
    data = 'root = "."\ntasks = ["denoise"]\npatch_size = 16\nbatch_size = 2\n'
    path = folder / "recipe.toml"
    path.write_text(
        f"[network]\n{sizes}prompt_dims = [8, 16, 40]\nprompt_sizes = [8, 4, 2]\n"
        f"[data]\n{data}[ticket]\nrounds = 1\nepochs = 1\nlr = 1e-3\n"
    )
    return path


def test_a_recipe_is_changed_on_the_command_line(recipe, tmp_path):
    changes = ("ticket.lr=5e-4", "seed=2", 'ticket.scope="layerwise"', "data.sigmas=[25]")
    options = [option for change in changes for option in ("--set", change)]
    mirl_command("train", recipe, "-o", tmp_path / "run", "--quiet", *options)
    held = json.loads((tmp_path / "run" / "recipe.json").read_text())
    assert (held["recipe"]["lr"], held["recipe"]["seed"]) == (5e-4, 2)
    assert held["recipe"]["scope"] == "layerwise"
    assert (held["data"]["sigmas"], held["data"]["seed"]) == ([25], 2)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--set", "ticket.rate=1"], "unknown in ticket: rate"),
        (["--set", "tickets.lr=1"], r"tickets\.lr: an experiment has no tickets"),
        (["--set", "ticket.lr"], r"--set ticket\.lr: expected KEY=VALUE"),
        (["--set", "ticket.scope=global"], r"--set ticket\.scope=global: .* in TOML"),
        (["--set", "ticket.lr=-1"], "lr must be positive"),
        (["--set", "lr=1"], r"lr: an experiment has no lr; ticket\.lr\?"),
        (["--seed", "2"], "--seed: a recipe says all else; .* or by --set seed=2$"),
        (["--epochs", "2"], r"--epochs: a recipe .* --set ticket\.epochs=2$"),
        (["--task", "derain"], r"""--task: a recipe .* --set 'data\.tasks=\["derain"\]'$"""),
        (
            ["--heads", "1", "1", "2", "2"],
            r"--heads: a recipe .* --set 'network\.heads=\[1, 1, 2, 2\]'$",
        ),
        (["--no-evaluate"], "--evaluate: a recipe says all else; change it there, or by --set$"),
    ],
)
def test_changes_that_cannot_be_are_named(recipe, tmp_path, options, message):
    with pytest.raises(ValueError, match=message):
        mirl_command("train", recipe, "-o", tmp_path / "run", *options)
    assert not (tmp_path / "run").exists()


def test_a_setting_without_an_option_is_set(folder, tmp_path):
    change = ("--task", "derain", "--set", "data.repeats={derain=4}")
    train(folder, tmp_path / "run", "--no-evaluate", *change)
    held = json.loads((tmp_path / "run" / "recipe.json").read_text())
    assert held["data"]["tasks"] == {"derain": 4}


@pytest.mark.parametrize(
    ("change", "option"),
    [
        ("ticket.rounds=2", "--rounds"),
        ("network.num_blocks=[1, 1, 1, 2]", "--num-blocks"),
        ('data.tasks=["denoise"]', "--task"),
        ("seed=2", "--seed"),
        ("ticket={lr=1e-3}", "--rounds"),
    ],
)
def test_an_option_and_a_change_do_not_contradict_each_other(folder, tmp_path, change, option):
    with pytest.raises(ValueError, match=f"^{option}: --set says something else"):
        train(folder, tmp_path / "run", "--task", "derain", "--seed", 1, "--set", change)
    assert not (tmp_path / "run").exists()


def test_evaluate_prints_and_saves(folder, network, tmp_path):
    table = mirl_command(
        *["evaluate", folder, "-m", network, "--task", "denoise", "--quiet"],
        *["--save", tmp_path / "a.json", "--save", tmp_path / "a.csv"],
        *["--save-images", tmp_path / "images"],
    )
    rows = json.loads((tmp_path / "a.json").read_text())["rows"]
    assert [row["task"] for row in rows] == ["denoise_15", "denoise_25", "denoise_50"]
    assert f"{rows[0]['psnr']:.2f}" in table
    assert (tmp_path / "a.csv").read_text().count("\n") == 4
    saved = list((tmp_path / "images").rglob("*.png"))
    assert len(saved) == 6
    baseline = mirl_command("evaluate", folder, "--task", "denoise", "--quiet")
    assert f"{rows[0]['psnr_input']:.2f}" in baseline


def test_evaluate_overwrites_only_when_told(folder, tmp_path):
    table, images = tmp_path / "a.json", tmp_path / "images"
    image = images / "derain" / "Pairs" / "one_rainy.png"
    image.parent.mkdir(parents=True)
    for there, options in ((table, ["--save", table]), (image, ["--save-images", images])):
        there.write_bytes(b"mine")
        command = ("evaluate", folder, "--task", "derain", *options, "--quiet")
        # The network is not even looked for.
        with pytest.raises(FileExistsError, match=rf"{there.name}: is already there"):
            mirl_command(*command, "-m", tmp_path / "none.ckpt")
        assert there.read_bytes() == b"mine"
        mirl_command(*command, "--force")
        assert there.stat().st_size > 100


def test_evaluate_tells_what_it_cannot_write_before_it_works(folder, tmp_path, monkeypatch):
    with pytest.raises(IsADirectoryError):
        mirl_command("evaluate", folder / "none", "--save", write_dataset(tmp_path / "a.json"))
    monkeypatch.setattr("os.access", lambda *_: False)
    with pytest.raises(PermissionError):
        mirl_command("evaluate", folder / "none", "--save", tmp_path / "b.json")


def test_evaluate_measures_the_split_that_is_asked_for(folder):
    (folder / "test").rename(folder / "mine")
    table = mirl_command("evaluate", folder, "--split", "mine", "--task", "derain", "--quiet")
    assert table.splitlines()[-1].split()[:3] == ["derain", "Pairs", "1"]


def test_evaluate_refuses_an_ending_before_it_works(folder):
    with pytest.raises(ValueError, match=r"table\.xlsx: an evaluation is saved as"):
        mirl_command("evaluate", folder / "none", "--save", "table.xlsx")


def test_evaluate_looks_for_the_folder_before_it_works(folder, tmp_path):
    with pytest.raises(FileNotFoundError, match=r"other: no such folder"):
        mirl_command("evaluate", folder / "none", "--save", tmp_path / "other" / "a.json")


def test_restore_keeps_what_is_there(network, tmp_path):
    source = tmp_path / "photo.png"
    mirl.write_image(source, photo(0))
    command = ("restore", source, "-m", network, "-o", tmp_path / "out", "--quiet")
    mirl_command(*command)
    restored = tmp_path / "out" / "photo.png"
    pixels = mirl.read_image(restored).pixels
    assert pixels.shape == photo(0).shape
    with pytest.raises(FileExistsError, match=r"photo\.png: is already there"):
        mirl_command(*command)
    restored.write_bytes(b"")
    mirl_command(*command, "--force")
    np.testing.assert_array_equal(mirl.read_image(restored).pixels, pixels)


def test_inspect_shows_layers(network):
    listing = mirl_command("inspect", network)
    assert "patch_embed.proj.weight" in listing
    held = json.loads(CliRunner().invoke(app, ["inspect", str(network), "--json"]).output)
    assert held == json.loads(json.dumps(mirl.inspect(network).to_dict()))


def test_export_packs_and_unpacks(network, tmp_path):
    packed, dense = tmp_path / "a.mirl.safetensors", tmp_path / "b.safetensors"
    said = mirl_command("export", network, packed)
    assert "MB" in said
    mirl_command("export", packed, dense)
    assert packed.stat().st_size < 0.75 * dense.stat().st_size
    expected = mirl.load(network)
    for path in (packed, dense):
        model = mirl.load(path)
        assert model.density().prunable == expected.density().prunable
        for name, values in model.state_dict().items():
            if not expected._network.is_unused(name):
                np.testing.assert_array_equal(values, expected.state_dict()[name])


def test_export_rounds_packed_files(network, tmp_path):
    whole, half = (tmp_path / f"{name}.mirl.safetensors" for name in ("whole", "half"))
    mirl_command("export", network, whole, "--unused")
    mirl_command("export", network, half, "--dtype", "float16", "--unused")
    assert half.stat().st_size < whole.stat().st_size
    assert mirl.load(whole).density() == mirl.load(network).density()
    for dense in ("x.safetensors", "x.onnx"):
        with pytest.raises(ValueError, match="packed files"):
            mirl_command("export", network, tmp_path / dense, "--dtype", "float16")


def test_export_overwrites_only_when_told(network, tmp_path):
    out = tmp_path / "there.safetensors"
    out.write_bytes(b"mine")
    with pytest.raises(FileExistsError, match=r"there\.safetensors: is already there"):
        mirl_command("export", network, out)
    assert out.read_bytes() == b"mine"
    mirl_command("export", network, out, "--force")
    assert mirl.load(out).num_parameters > 0
    with pytest.raises(ValueError, match=r"other\.txt: must end with .*\.pth or \.safetensors"):
        mirl_command("export", network, tmp_path / "other.txt")


def test_bench_measures(network):
    listing = mirl_command(
        "bench", network, "--size", 24, "--patch-size", 16, "--batch-size", 2, "--repeats", 2
    )
    restore, step = listing.splitlines()[-2:]
    assert restore.split()[:2] == ["restore", "2x3x24x24"]
    assert step.split()[:3] == ["training", "step", "2x3x16x16"]
    assert all(float(line.split()[-3].replace(",", "")) > 0 for line in (restore, step))


@pytest.mark.parametrize(
    ("arguments", "culprit"),
    [
        (("inspect", "missing.safetensors"), "missing.safetensors"),
        (("evaluate", "missing"), "missing"),
        (("train", "missing", "-o", "run"), "missing"),
        (("restore", "missing.png", "-m", "missing.ckpt", "-o", "out"), "missing.ckpt"),
        (("export", "missing.ckpt", "out.safetensors"), "missing.ckpt"),
    ],
)
def test_errors_are_one_line(arguments, culprit, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    process = mirl_process(*arguments)
    assert process.returncode == 1
    assert process.stdout == ""
    (line,) = process.stderr.splitlines()
    assert line.startswith("error: ")
    assert culprit in line
    assert not list(tmp_path.iterdir())


def test_results_do_not_go_to_a_file(tmp_path):
    (tmp_path / "there").touch()
    there = ("-o", tmp_path / "there")
    for command in (
        ("demo",),
        ("train", tmp_path),
        ("sweep", "s.toml"),
        ("restore", "a.png", "-m", "m.ckpt"),
        ("degrade", "a.png", "--task", "derain"),
    ):
        with pytest.raises(NotADirectoryError, match="is a file, not a folder"):
            mirl_command(*command, *there)
    with pytest.raises(NotADirectoryError, match="is a file, not a folder"):
        mirl_command("evaluate", tmp_path, "--save-images", tmp_path / "there")


def test_warnings_are_one_line(network, tmp_path):
    """Without the place in the code, and without what a terminal obeys."""
    pages = tmp_path / "pages\x1b[2J.tiff"
    first, *more = (Image.fromarray(photo(key)) for key in range(2))
    first.save(pages, save_all=True, append_images=more)
    done = mirl_process("restore", pages, "-m", network, "-o", tmp_path / "out", "-q")
    told = "pages�[2J.tiff: the first of several pages is read\n"
    assert done.stderr == f"warning: {tmp_path}/{told}"


@pytest.mark.parametrize(
    ("kind", "expected"),
    [
        *((kind, True) for kind in (ValueError, TypeError, ImportError, MemoryError)),
        *((kind, True) for kind in (mirl.errors.DivergenceError, mirl.errors.DeviceError)),
        *((kind, False) for kind in (mirl.errors.InternalError, RuntimeError, ZeroDivisionError)),
    ],
)
def test_faults_of_ours_keep_their_traceback(kind, expected, capsys):
    one_line(kind, kind("culprit"), None)
    said = capsys.readouterr().err
    assert (said == "error: culprit\n") == expected
    assert "culprit" in said


def test_debug_shows_the_traceback(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    process = mirl_process("--debug", "inspect", "missing.safetensors")
    assert process.returncode == 1
    assert "Traceback" in process.stderr


def test_wrong_usage_exits_with_2():
    process = mirl_process("train", "--no-such-option")
    assert process.returncode == 2
    assert "Traceback" not in process.stderr


@pytest.mark.skipif(sys.platform == "win32", reason="signals of POSIX")
def test_ctrl_c_stops_cleanly_and_the_run_resumes(folder, tmp_path):
    import signal
    import time

    out = tmp_path / "run"
    command = [
        *[sys.executable, "-m", "mirl", "train", str(folder), "-o", str(out), "--rounds", "1"],
        *["--epochs", "100000", "--batch-size", "1", "--patch-size", "16", "--quiet"],
        *["--no-evaluate", *SIZES],
    ]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        try:
            deadline = time.monotonic() + 60
            steps = out / "steps.jsonl"
            while not (steps.exists() and steps.read_text().count("\n") > 2):
                assert process.poll() is None, process.communicate()[1]
                assert time.monotonic() < deadline
                time.sleep(0.1)
            process.send_signal(signal.SIGINT)
            _, said = process.communicate(timeout=60)
        finally:
            process.kill()
    assert process.returncode == 130
    assert "same command" in said
    assert "Traceback" not in said


@pytest.mark.parametrize("encoding", ["ascii", "latin-1", "cp1252"])
def test_a_table_comes_out_in_any_encoding(folder, network, encoding):
    done = mirl_process("evaluate", folder, "-m", network, "-q", PYTHONIOENCODING=encoding)
    assert (done.returncode, done.stderr) == (0, "")
    assert "denoise" in done.stdout


def test_runs_of_a_sweep_that_failed_are_an_error_without_a_traceback(tmp_path, monkeypatch):
    pytest.importorskip("pandas")
    pytest.importorskip("pyarrow")

    class Failing:
        def run(self, *_, **__):
            raise RuntimeError("1 of 2 runs failed\na: ValueError: lr")

    monkeypatch.setattr("mirl.lottery.Sweep.load", lambda _: Failing())
    with pytest.raises(SystemExit, match=r"^error: 1 of 2 runs failed\na: ValueError: lr$"):
        mirl_command("sweep", tmp_path / "sweep.toml", "-o", tmp_path / "runs")


def test_a_damaged_record_hides_no_runs_that_failed(tmp_path, monkeypatch):
    pytest.importorskip("pandas")
    pytest.importorskip("pyarrow")

    class Failing:
        def run(self, out, **_):
            (out / "a").mkdir(parents=True)
            (out / "a" / "recipe.json").write_text("{}")
            (out / "a" / "record.jsonl").write_text("{")
            raise RuntimeError("1 of 2 runs failed\na: FormatError")

    monkeypatch.setattr("mirl.lottery.Sweep.load", lambda _: Failing())
    both = r"^error: 1 of 2 runs failed\na: FormatError\nerror: no results\.csv: .*record\.jsonl"
    with pytest.raises(SystemExit, match=both):
        mirl_command("sweep", tmp_path / "sweep.toml", "-o", tmp_path / "runs")


@pytest.mark.parametrize("option", [("--precision", "bfloat16"), ("--device", "cuda")])
def test_what_is_of_a_network_needs_one(folder, option):
    with pytest.raises(ValueError, match="--model is missing"):
        mirl_command("evaluate", folder, *option)


def test_a_sweep_that_is_stopped_says_so(tmp_path, monkeypatch):
    pytest.importorskip("pandas")
    pytest.importorskip("pyarrow")

    class Stopped:
        def run(self, *_, **__):
            raise KeyboardInterrupt

    monkeypatch.setattr("mirl.lottery.Sweep.load", lambda _: Stopped())
    result = CliRunner().invoke(app, ["sweep", str(tmp_path / "a.toml"), "-o", str(tmp_path / "b")])
    assert result.exit_code == 130
    assert "the same command goes on" in result.output


def test_recipes_and_sweeps_are_run_and_reported(folder, tmp_path):
    recipe, sweep = folder.with_name("recipe.toml"), tmp_path / "one.toml"
    recipe.write_text(RECIPE)
    table = mirl_command("train", recipe, "-o", tmp_path / "run", "--quiet")
    assert "25.0" in table
    with pytest.raises(ValueError, match=r"--lr: a recipe .* --set ticket\.lr=0\.0001$"):
        mirl_command("train", recipe, "-o", tmp_path / "other", "--lr", 1e-4)
    sweep.write_text('recipe = "recipe.toml"')
    said = mirl_command("sweep", sweep, "-o", tmp_path / "runs", "--quiet")
    assert "1 runs, results.csv" in said
    assert (tmp_path / "runs" / "results.parquet").exists()
    page = tmp_path / "ssim.html"
    told = mirl_command("report", tmp_path / "runs", "-o", page, "--measure", "ssim")
    assert "ssim.html" in told
    assert "<h2>SSIM</h2>" in page.read_text()


def test_errors_show_their_notes_and_nothing_that_a_terminal_obeys(capsys):
    error = OverflowError("too big \x1b[2J")
    error.__notes__ = ["while processing 'seed'"]
    one_line(OverflowError, error, None)
    assert capsys.readouterr().err == "error: too big �[2J\nwhile processing 'seed'\n"


@pytest.mark.skipif(sys.platform == "win32", reason="limits of POSIX")
@pytest.mark.parametrize("option", ["--version", "--help"])
def test_output_that_cannot_be_written_is_one_line(tmp_path, option):
    import resource

    with (tmp_path / "out").open("w") as out:
        process = subprocess.run(
            [sys.executable, "-m", "mirl", option],
            stdout=out,
            stderr=subprocess.PIPE,
            text=True,
            timeout=120,
            preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0)),
        )
    assert process.returncode != 0
    assert process.stderr.startswith("error: File too large\n")
    assert "Traceback" not in process.stderr


@pytest.mark.skipif(sys.platform == "win32", reason="descriptors of POSIX")
@pytest.mark.parametrize("command", ["restore", "evaluate", "degrade"])
def test_commands_end_well_without_stderr(folder, network, tmp_path, command):
    mirl.write_image(tmp_path / "a.png", photo(0))
    arguments = {
        "restore": (tmp_path / "a.png", "-m", network, "-o", tmp_path / "out"),
        "evaluate": (folder,),
        "degrade": (tmp_path / "a.png", "-o", tmp_path / "out", "--task", "derain"),
    }
    line = [sys.executable, "-m", "mirl", command, *map(str, arguments[command])]
    process = subprocess.run(
        ["sh", "-c", 'exec "$@" 2>&-', "sh", *line], capture_output=True, timeout=120
    )
    assert process.returncode == 0
