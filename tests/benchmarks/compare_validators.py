"""Which validator of OME-Zarr metadata is right how often: ours, ome-zarr-models and yaozarrs.

Run it as ``python tests/benchmarks/compare_validators.py [CORPUS] [--cache DIR]``. The corpus is
a folder with an ``index.json``, by default ``../shared/corpus`` beside the repository. The other
two are installed from PyPI, each into an environment of its own below the cache, which is a
temporary folder unless given; ome-zarr-models needs Python 3.12, see ``--python``.

Everyone is told the kind and the version of each document, and gets it in the form it wants:

- Truth is ``expected_prose``: *valid* and *warning* are to be accepted, *invalid* to be rejected.
  *fragment* and *ambiguous* are left out.
- A kind or a version that a validator has no model for is unsupported, neither right nor wrong.
- ome-zarr-models knows 0.6 by that name only, so it reads ``0.6rc0`` as ``0.6``.
- Label documents of the corpus mostly lack the ``multiscales`` that they must have. A plain one
  is put in, or a validator would be right to reject them all, whatever they are about.
- A few labels of the corpus are doubtful: they call *warning* what breaks a MUST and made others
  *invalid*. They count as labelled; a second total goes without them.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import warnings
from collections import Counter
from collections.abc import Callable, Iterable
from importlib import import_module
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
OURS = "ngff_xarray"
OTHERS = {"ome-zarr-models": "ome-zarr-models==1.8.1", "yaozarrs": "yaozarrs==0.3.4"}
TRUTH = {"valid": "accepted", "warning": "accepted", "invalid": "rejected"}
Case = dict[str, Any]
# None: there is no model to ask
Ask = Callable[[Case, Any], "tuple[Callable[[Any], object], Any] | None"]


def completed(case: Case, document: Any) -> Any:
    """Return the document, with ``multiscales`` if it is of a label image and has none."""
    content = document.get("ome", document)
    if case["kind"] != "label" or "image-label" not in content or "multiscales" in content:
        return document
    axes = [{"name": name, "type": "space", "unit": "micrometer"} for name in "yx"]
    scale: dict[str, Any] = {"type": "scale", "scale": [1.0, 1.0]}
    plain: dict[str, Any] = {"name": "label"}
    if case["spec_version"] < "0.6":
        plain["axes"] = axes
    else:
        plain["coordinateSystems"] = [{"name": "physical", "axes": axes}]
        scale |= {"input": {"path": "0"}, "output": {"name": "physical"}}
    plain["datasets"] = [{"path": "0", "coordinateTransformations": [scale]}]
    content = {**content, "multiscales": [plain]}
    return {**document, "ome": content} if "ome" in document else content


def kind_of(case: Case, document: Any) -> str:
    """Return the kind; documents about transformations are images or scenes."""
    if case["kind"] != "transform":
        return str(case["kind"])
    return "scene" if "scene" in document.get("ome", {}) else "image"


def ask_ome_zarr_models(case: Case, document: Any) -> tuple[Callable[[Any], object], Any] | None:
    kind, version = kind_of(case, document), case["spec_version"][:3]
    if version not in ("0.4", "0.5", "0.6"):
        return None
    classes = {
        "image": "image.ImageAttrs",
        "label": "image_label.ImageLabelAttrs",
        "plate": "hcs.HCSAttrs",
        "well": "well.WellAttrs",
        "bf2raw": "bioformats2raw.BioFormats2RawAttrs",
    }
    if version == "0.6":
        classes["scene"] = "scene.BaseSceneAttrs"
    if kind not in classes:
        return None
    package = f"ome_zarr_models.v{version.replace('.', '')}"
    content = document if version == "0.4" else document.get("ome")
    if version == "0.6" and isinstance(content, dict) and content.get("version") == "0.6rc0":
        document = {**document, "ome": {**content, "version": "0.6"}}
    module, name = classes[kind].split(".")
    model = getattr(import_module(f"{package}.{module}"), name)
    if version != "0.4":
        model = import_module(f"{package}.base").BaseZarrAttrs[model]
    return model.model_validate, document


def ask_yaozarrs(case: Case, document: Any) -> tuple[Callable[[Any], object], Any] | None:
    kind, version = kind_of(case, document), case["spec_version"]
    classes = {
        "image": "Image",
        "label": "LabelImage",
        "plate": "Plate",
        "well": "Well",
        "bf2raw": "Bf2Raw",
        "ome-series": "Series",
    }
    if version not in ("0.4", "0.5") or kind not in classes:
        return None
    package = import_module(f"yaozarrs.v{version.replace('.', '')}")
    validate_json = import_module("yaozarrs").validate_ome_json
    if version == "0.5" and "ome" not in document:
        return lambda value: validate_json(json.dumps(value), package.OMEAttributes), document
    content = document if version == "0.4" else document["ome"]
    model = getattr(package, classes[kind])
    return lambda value: validate_json(json.dumps(value), model), content


def ask_ours(case: Case, document: Any) -> tuple[Callable[[Any], object], Any] | None:
    ours = import_module(OURS).validate
    kind, version = kind_of(case, document), case["spec_version"]

    def validate(value: Any) -> None:
        report = ours(value, kind=kind, version=version)
        if not report.valid:
            first = report.errors[0]
            raise ValueError(f"{first.path}: {first.message}")

    return validate, document


ASK: dict[str, Ask] = {
    OURS: ask_ours,
    "ome-zarr-models": ask_ome_zarr_models,
    "yaozarrs": ask_yaozarrs,
}


def is_doubtful(case: Case, document: Any) -> bool:
    """Return whether a document is labelled as breaking a SHOULD only, and breaks a MUST."""
    if case["expected_prose"] != "warning":
        return False
    plate = document.get("ome", document).get("plate", {"rows": [], "wells": []})
    rows = {row["name"] for row in plate["rows"]}
    return any(well["path"].split("/")[0] not in rows for well in plate["wells"])


def load(corpus: Path) -> list[Case]:
    cases: list[Case] = json.loads((corpus / "index.json").read_text())
    return cases


def answer(name: str, corpus: Path) -> dict[str, tuple[str, str]]:
    """Return what a validator, that can be imported here, says of each document, and why."""
    answers: dict[str, tuple[str, str]] = {}
    warnings.simplefilter("ignore")
    for case in load(corpus):
        document = completed(case, json.loads((corpus / case["path"]).read_text()))
        asked = ASK[name](case, document)
        if asked is None:
            answers[case["id"]] = "unsupported", ""
            continue
        validate, value = asked
        try:
            validate(value)
        except NotImplementedError as error:  # a kind, version or transformation it does not know
            answers[case["id"]] = "unsupported", str(error)
        except ValueError as error:  # pydantic's is one as well
            answers[case["id"]] = "rejected", str(error)
        except Exception as error:
            answers[case["id"]] = "crashed", f"{type(error).__name__}: {error}"
        else:
            answers[case["id"]] = "accepted", ""
    return answers


def environment(name: str, cache: Path, python: str) -> str:
    """Return the interpreter of an environment with one of the others, made if need be."""
    folder = cache / OTHERS[name]
    interpreter = folder / ("Scripts/python.exe" if sys.platform == "win32" else "bin/python")
    done = folder / "installed"
    if not done.exists():
        print(f"installing {OTHERS[name]} into {folder}", file=sys.stderr)
        subprocess.run([python, "-m", "venv", "--clear", str(folder)], check=True)
        pip = [str(interpreter), "-m", "pip", "install", "--quiet", OTHERS[name]]
        subprocess.run(pip, check=True)
        done.touch()
    return str(interpreter)


def answers_of(name: str, interpreter: str, corpus: Path) -> dict[str, tuple[str, str]]:
    command = [interpreter, __file__, str(corpus), "--answer", name]
    run = subprocess.run(command, check=True, stdout=subprocess.PIPE)
    answers: dict[str, tuple[str, str]] = json.loads(run.stdout)
    return answers


def marks(cases: Iterable[Case], answers: dict[str, tuple[str, str]]) -> Counter[str]:
    """Count right, wrong (missed, false alarm), unsupported and crashed."""
    count: Counter[str] = Counter()
    for case in cases:
        said, wanted = answers[case["id"]][0], TRUTH[case["expected_prose"]]
        if said == "unsupported":
            count["unsupported"] += 1
        elif said == wanted:
            count["right"] += 1
        else:
            count["wrong"] += 1
            count["crashed" if said == "crashed" else f"{said} wrongly"] += 1
    return count


def print_table(cases: list[Case], all_answers: dict[str, dict[str, tuple[str, str]]]) -> None:
    print("right / wrong / unsupported\n")
    print(f"{'version':<8}{'kind':<12}{'n':>5}" + "".join(f"{name:>21}" for name in all_answers))
    keys = sorted({(case["spec_version"], case["kind"]) for case in cases})
    versions = sorted({version for version, _ in keys})
    rows = [*keys, *((version, "all") for version in versions), ("all", "all")]
    for version, kind in rows:
        if kind == "all" and version in (versions[0], "all"):
            print()
        chosen = [
            case
            for case in cases
            if version in (case["spec_version"], "all") and kind in (case["kind"], "all")
        ]
        line = f"{version:<8}{kind:<12}{len(chosen):>5}"
        for answers in all_answers.values():
            count = marks(chosen, answers)
            line += f"{count['right']:>11} /{count['wrong']:>3} /{count['unsupported']:>3}"
        print(line)


def print_totals(
    title: str, cases: list[Case], all_answers: dict[str, dict[str, tuple[str, str]]]
) -> None:
    print(f"\n{title}: {len(cases)} documents")
    for name, answers in all_answers.items():
        count = marks(cases, answers)
        decided = count["right"] + count["wrong"]
        of_decided = f"{100 * count['right'] / decided:.1f} %" if decided else "-"
        print(
            f"  {name}: {of_decided} of the {decided} it decided are right, "
            f"{100 * count['right'] / len(cases):.1f} % of all; "
            f"accepted wrongly {count['accepted wrongly']}, "
            f"rejected wrongly {count['rejected wrongly']}, crashed {count['crashed']}"
        )


def print_wrong(name: str, cases: list[Case], answers: dict[str, tuple[str, str]]) -> None:
    print(f"\n{name} is wrong about")
    wrong = [
        case
        for case in cases
        if answers[case["id"]][0] not in ("unsupported", TRUTH[case["expected_prose"]])
    ]
    for case in wrong:
        said, why = answers[case["id"]]
        print(f"  {case['id']}: {said}, but {case['expected_prose']}")
        for line in (" ".join(why.split())[:160], case.get("prose_reason", "")):
            if line:
                print(f"      {line}")
    if not wrong:
        print("  none")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("corpus", nargs="?", type=Path, default=ROOT.parent / "shared" / "corpus")
    parser.add_argument("--cache", type=Path, help="keeps the environments of the others")
    parser.add_argument("--python", default=sys.executable, help="to make environments with")
    parser.add_argument("--everyone", action="store_true", help="list what the others get wrong")
    parser.add_argument("--answer", choices=ASK, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.answer:
        print(json.dumps(answer(args.answer, args.corpus)))
        return
    with tempfile.TemporaryDirectory() as temporary:
        cache = (args.cache or Path(temporary)).resolve()
        interpreters = {OURS: sys.executable}
        interpreters |= {name: environment(name, cache, args.python) for name in OTHERS}
        corpus = args.corpus.resolve()
        said = {name: answers_of(name, python, corpus) for name, python in interpreters.items()}
    everything = load(corpus)
    cases = [case for case in everything if case["expected_prose"] in TRUTH]
    print_table(cases, said)
    print_totals("as labelled", cases, said)
    sure = [
        case
        for case in cases
        if not is_doubtful(case, json.loads((corpus / case["path"]).read_text()))
    ]
    print_totals("without the doubtful labels", sure, said)
    left = Counter(case["expected_prose"] for case in everything) - Counter(
        case["expected_prose"] for case in cases
    )
    listed = ", ".join(f"{count} {what}" for what, count in left.items())
    print(f"\nleft out of {len(everything)}: {listed}")
    for name in said if args.everyone else (OURS,):
        print_wrong(name, cases, said[name])


if __name__ == "__main__":
    main()
