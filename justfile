# The recipes of this workspace; `just --list` shows them. Everything is built in release mode.

# Cheapest check first: format, lints, documentation, tests.
check: fmt clippy doc test

fmt:
    cargo fmt --all --check

clippy:
    cargo clippy --release --workspace --all-targets -- -D warnings

doc:
    RUSTDOCFLAGS="-D warnings" cargo doc --release --workspace --no-deps

test:
    cargo test --release --workspace

# What the continuous integration runs, peers in Python and devices included.
ci:
    CI=true bash .ci/run

# Float training, calibration and quantization-aware training of a small net on MNIST.
train out="runs/lenet" *flags="":
    cargo run --release -- train mnist --model lenet --out {{ out }} {{ flags }}

# Kills a run with SIGKILL at random moments, resumes it each time, and compares it with an undisturbed one, bit for bit.
chaos kills="50" seed="20261124":
    QAT_CHAOS_KILLS={{ kills }} QAT_CHAOS_SEED={{ seed }} cargo test --release --workspace --test chaos -- --nocapture

# Times the integer engine at every level of instructions.
bench-runtime:
    cargo bench -p qat-runtime --bench engine

# Times the operations of training beside copies of memory and products of matrices, then training steps on the CPU.
bench: bench-ops bench-train

# Times fake quantization beside copies, and convolutions beside products of matrices.
bench-ops:
    cargo bench --workspace --bench ops

# Times training steps on the CPU; names of networks and modes choose among them, `--grow` shows how they grow.
bench-train *flags="":
    cargo bench --workspace --bench train_step -- {{ flags }}

# Memory that training steps take at their peak.
bench-memory:
    cargo test --release --workspace --test step_memory -- --nocapture

# Times training steps of this workspace, PyTorch and TensorFlow in turns; each is a Python that has them.
bench-train-peers torch="python3" *flags="":
    {{ torch }} benches/peers/train_step.py --torch {{ torch }} {{ flags }}

# Times the integer engine and ONNX Runtime in turns; PYTHON has tests/peers/requirements.txt.
bench-peers python="python3" *flags="":
    {{ python }} benches/peers/compare.py {{ flags }}

# The parity matrix, written into docs/parity.md. QAT_PYTHON and QAT_TFLM_PYTHON name Pythons with the peers, QAT_SHARED a folder with
# lossless CIFAR-10.
parity:
    ${QAT_PYTHON:-python3} tests/peers/parity.py --out docs/parity.md
