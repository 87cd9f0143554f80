"""Makes the parity matrix: every operation and four networks, through every format that holds them, against the engine.

    python parity.py --out docs/parity.md [--quick] [--seed N] [--work FOLDER] [--no-networks] [--cifar FOLDER]

Builds and runs the workspace's example parity_cases, which writes models as files with the codes that go in and the codes that the
engine gives, and compiles and runs generated C and Rust; then runs the files in ONNX Runtime, LiteRT, LiteRT's reference kernels
and, where QAT_TFLM_PYTHON names a Python that has it, TFLite-Micro; compares all codes; judges them by the claims in
parity_claims.py; and writes the table. Without --out the table goes nowhere, and the claims are judged all the same. Exit code 1
where a claim does not hold.

--quick           fewer outputs and fewer images: the same claims in a fraction of the time
--seed N          of models and inputs; the same seed gives the same table on the same machine
--cifar FOLDER    lossless CIFAR-10 for ResNet-8; default: datasets/cifar10/lossless in the folder that QAT_SHARED names
--work FOLDER     keeps the files there
"""

import argparse
import concurrent.futures
import datetime
import importlib.metadata
import json
import os
import pathlib
import platform
import subprocess
import sys
import tempfile

import numpy as np
import onnx
import onnxruntime as ort

import check_fusion
import onnx_codes
import parity_claims as claims
import parity_report

ROOT = pathlib.Path(__file__).resolve().parents[2]
RESOLVERS = {"litert": "default", "litert-reference": "reference", "tflite-micro": "tflm"}
# Distinct codes, without which equal ones would say little.
DISTINCT = 8
# Files that a process runs before it ends.
FILES = 48


def build():
    """The example's program."""
    cargo = os.environ.get("CARGO", "cargo")
    subprocess.run([cargo, "build", "--release", "--quiet", "--workspace", "--example", "parity_cases"], cwd=ROOT, check=True)
    metadata = subprocess.run(
        [cargo, "metadata", "--no-deps", "--format-version", "1"], cwd=ROOT, check=True, capture_output=True, text=True
    )
    return pathlib.Path(json.loads(metadata.stdout)["target_directory"], "release", "examples", "parity_cases")


def in_file(codes, axes):
    """Samples with their axes in the order of a TFLite file."""
    return np.ascontiguousarray(codes.transpose([0, *(axis + 1 for axis in axes)]))


def run_onnx(folder, entry, x, fuses):
    """The codes that a file gives; a message where a layer of it stays in float, or batches of another size change codes."""
    path = folder / entry["file"]
    model = onnx.load(str(path))
    onnx.checker.check_model(model, full_check=True)
    left = check_fusion.left_in_float(str(path), False)[0] if fuses else []
    if left:
        return f"in float: {', '.join(f'{node.op_type} {node.name!r}' for node in left)}"
    options = ort.SessionOptions()
    options.log_severity_level = 3
    # Sums of floats depend on how they are shared among threads.
    options.intra_op_num_threads = 1
    found = onnx_codes.run(path, model.graph, np.load(folder / x), options)
    batch, alone = found[:-1], found[-1:]
    # Float sums may have another order in a batch of one.
    if fuses and not np.array_equal(batch[-1:], alone):
        return "the last sample gives other codes in a batch of its own"
    return batch


def run_onnx_cases(folder, engine, jobs):
    """Answers to jobs `(entry, x, fuses)`: codes, or why there are none."""
    answers = []
    for entry, x, fuses in jobs:
        try:
            answers.append(run_onnx(folder, entry, x, fuses))
        except Exception as error:  # Whatever the runtime raises is its refusal.
            answers.append(f"{type(error).__name__}: {error}")
    return answers


def run_tflite_cases(folder, engine, jobs):
    """As run_onnx_cases, in a process of its own with the engine's Python."""
    python = os.environ["QAT_TFLM_PYTHON"] if engine == "tflite-micro" else sys.executable
    with tempfile.TemporaryDirectory() as place:
        command = [python, str(pathlib.Path(__file__).with_name("run_tflite.py"))]
        outputs = []
        for index, (entry, x, _) in enumerate(jobs):
            source, target = (str(pathlib.Path(place, f"{index}.{which}.npy")) for which in "xy")
            np.save(source, in_file(np.load(folder / x), entry["input_axes"]))
            command += [str(folder / entry["file"]), source, target]
            outputs.append(pathlib.Path(target))
        done = subprocess.run([*command, "--resolver", RESOLVERS[engine]], capture_output=True, text=True)
        lines = (done.stdout + done.stderr).splitlines()
        answers = []
        for (entry, _, _), output in zip(jobs, outputs):
            refused = f"refused {folder / entry['file']}: "
            reason = [line.removeprefix(refused) for line in lines if line.startswith(refused)]
            answers.append(onnx_codes.offset(np.load(output)) if output.exists() else " ".join(reason or lines[-3:]))
        return answers


def compare(found, expected):
    """Codes compared, codes that differ, largest difference; a message where the shapes differ."""
    if isinstance(found, str):
        return found
    if found.size != expected.size:
        return f"shape: expected {expected.shape}, found {found.shape}"
    distance = np.abs(found.reshape(expected.shape) - expected)
    return int(distance.size), int(np.count_nonzero(distance)), int(distance.max(initial=0))


class Answers:
    """What every engine gave for every case of a folder."""

    def __init__(self, folder, engines):
        self.folder = folder
        listed = json.loads((folder / "cases.json").read_text())
        self.cases = listed["cases"]
        self.engines = [engine for engine in engines if engine != "c" or listed["c"]]
        self.codes = {}
        self.run()

    def run(self):
        batches = []
        for engine in self.engines:
            jobs = []
            for index, case in enumerate(self.cases):
                entry = case["engines"][engine]
                if "refused" in entry:
                    continue
                if "found" in entry:
                    self.codes[index, engine] = onnx_codes.offset(np.load(self.folder / entry["found"]))
                    continue
                fuses = engine == "onnx-qdq" and not case["width"].startswith("16")
                jobs.append((index, (entry, case["x"], fuses)))
            size = FILES if len(jobs) > 4 * FILES else max(1, len(jobs) // 4)
            batches += [(engine, jobs[start : start + size]) for start in range(0, len(jobs), size)]
        # The slowest begin first.
        batches.sort(key=lambda batch: list(RESOLVERS).index(batch[0]) if batch[0] in RESOLVERS else -1, reverse=True)
        with concurrent.futures.ProcessPoolExecutor(os.cpu_count()) as pool:
            futures = []
            for engine, jobs in batches:
                run = run_tflite_cases if engine in RESOLVERS else run_onnx_cases
                futures.append((engine, jobs, pool.submit(run, self.folder, engine, [job for _, job in jobs])))
            for engine, jobs, future in futures:
                for (index, _), answer in zip(jobs, future.result()):
                    self.codes[index, engine] = answer

    def expected(self, index, engine):
        """The engine's codes, as they stand in the file."""
        entry = self.cases[index]["engines"][engine]
        y = onnx_codes.offset(np.load(self.folder / entry["y"]))
        return in_file(y, entry["output_axes"]) if "output_axes" in entry else y

    def results(self):
        """For each case and engine: the comparison, or what refused."""
        for index, case in enumerate(self.cases):
            for engine in self.engines:
                entry = case["engines"][engine]
                if "refused" in entry:
                    yield claims.Result(case, engine, refused=entry["refused"])
                    continue
                expected = self.expected(index, engine)
                outcome = compare(self.codes[index, engine], expected)
                if not isinstance(outcome, str) and case["kind"] == "random" and len(np.unique(expected)) < DISTINCT:
                    outcome = f"expected at least {DISTINCT} distinct codes, which says something, found {len(np.unique(expected))}"
                if isinstance(outcome, str):
                    yield claims.Result(case, engine, failed=outcome)
                else:
                    yield claims.Result(case, engine, *outcome)


def top1(codes):
    return codes.reshape(len(codes), -1).argmax(axis=1)


def network_answers(answers):
    """For each network: correct answers under each engine's rules, and how many agree with the engine and with ONNX Runtime's rules."""
    rows = []
    for index, case in enumerate(answers.cases):
        labels = np.array(case["labels"])
        rules = {}
        for engine in answers.engines:
            entry = case["engines"][engine]
            if "refused" not in entry:
                rules[entry["y"].split(".")[1]] = onnx_codes.offset(np.load(answers.folder / entry["y"]))
        agreeing = {
            engine: int(np.count_nonzero(top1(answers.codes[index, engine]) == top1(answers.expected(index, engine))))
            for engine in answers.engines
            if not isinstance(answers.codes.get((index, engine), ""), str)
        }
        base = rules.get("onnx-runtime")
        between = {
            name: (
                int(np.count_nonzero(top1(codes) == labels)),
                None if base is None else int(np.count_nonzero(top1(codes) == top1(base))),
                None if base is None else int(np.count_nonzero(codes != base)),
                None if base is None else int(np.abs(codes - base).max(initial=0)),
                len(np.unique(codes)),
            )
            for name, codes in rules.items()
        }
        rows.append((case, len(labels), agreeing, between))
    return rows


def version_of(command):
    try:
        return subprocess.run(command, check=True, capture_output=True, text=True).stdout.splitlines()[0]
    except (OSError, subprocess.CalledProcessError, IndexError):
        return "none"


def machine():
    """Processor and those of its instructions that decide how engines compute."""
    text = pathlib.Path("/proc/cpuinfo").read_text() if pathlib.Path("/proc/cpuinfo").exists() else ""
    fields = {line.split(":")[0].strip(): line.split(":", 1)[1].strip() for line in text.splitlines() if ":" in line}
    flags = set(fields.get("flags", "").split())
    wanted = ["avx2", "fma", "avx512f", "avx512_vnni", "avx_vnni", "amx_int8"]
    return fields.get("model name", platform.processor()), [flag for flag in wanted if flag in flags]


def versions(has_tflm):
    named = {name: importlib.metadata.version(name) for name in ("onnxruntime", "onnx", "ai-edge-litert", "numpy")}
    if has_tflm:
        code = "import importlib.metadata as m; print(m.version('tflite-micro'))"
        named["tflite-micro"] = version_of([os.environ["QAT_TFLM_PYTHON"], "-c", code])
    return named | {"gcc": version_of(["gcc", "--version"]), "rustc": version_of([os.environ.get("RUSTC", "rustc"), "--version"])}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", metavar="FILE")
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--seed", type=int, default=31)
    parser.add_argument("--work", metavar="FOLDER")
    parser.add_argument("--no-networks", action="store_true")
    parser.add_argument("--cifar", metavar="FOLDER")
    arguments = parser.parse_args()

    shared = os.environ.get("QAT_SHARED")
    cifar = arguments.cifar or (shared and os.path.join(shared, "datasets", "cifar10", "lossless"))
    outputs, draws, images = (2_000, 1, 100) if arguments.quick else (10_000, 2, 1_000)
    engines = list(claims.ENGINES)
    has_tflm = bool(os.environ.get("QAT_TFLM_PYTHON"))
    if not has_tflm:
        print("SKIPPED: TFLite-Micro, since QAT_TFLM_PYTHON names no Python")
        engines.remove("tflite-micro")

    program = build()
    model_name, flags = machine()
    with tempfile.TemporaryDirectory() as temporary:
        work = pathlib.Path(arguments.work or temporary)

        def answers(what, count, *rest):
            folder = work / what
            subprocess.run([program, what, folder, str(arguments.seed), str(count), *rest], cwd=ROOT / "crates/cli", check=True)
            return Answers(folder, engines)

        operations = answers("operations", outputs, str(draws))
        if not {"c"} <= set(operations.engines):
            print("SKIPPED: generated C, since there is no gcc")
        results = list(operations.results())
        matrix = claims.Matrix(results, flags)
        networks, net_matrix, net_rows = None, None, []
        if not arguments.no_networks:
            networks = answers("networks", images, *([os.path.abspath(cifar)] if cifar else []))
            if not cifar:
                print("SKIPPED: ResNet-8, since neither --cifar nor QAT_SHARED names its images")
            net_matrix = claims.Matrix(list(networks.results()), flags)
            net_rows = network_answers(networks)

    broken = matrix.broken() + (net_matrix.broken() if net_matrix else []) + claims.broken_answers(net_rows)
    for line in parity_report.summary(matrix) + (parity_report.summary(net_matrix) if net_matrix else []):
        print(line)
    if arguments.out:
        command = f"python tests/peers/parity.py --out {arguments.out}{' --quick' if arguments.quick else ''} --seed {arguments.seed}"
        facts = {
            "date": datetime.datetime.now(datetime.timezone.utc).date().isoformat(),
            "machine": f"{model_name} ({', '.join(flags)}), {platform.system()} {platform.machine()}",
            "versions": ", ".join(f"{name} {version}" for name, version in versions(has_tflm).items()),
            "seed": str(arguments.seed),
            "command": command,
        }
        text = parity_report.document(facts, matrix, net_matrix, net_rows, list(claims.ENGINES))
        pathlib.Path(arguments.out).write_text(text, encoding="utf-8")
    for line in broken:
        print(f"broken: {line}")
    print(f"{len(broken)} claims broken" if broken else "every claim holds")
    sys.exit(1 if broken else 0)


if __name__ == "__main__":
    main()
