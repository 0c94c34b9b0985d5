"""Mutation test of the simulation: it must detect each of these defects in the product's sources within a few seeds.

    python3 tools/simulation/mutants/run.py [NAME ...]

Works on a copy of the committed sources, built in debug. The text that a mutant replaces must occur in the sources exactly once, so
that an outdated list fails.
"""

import os
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[3]
SEEDS = 40


@dataclass
class Mutant:
    name: str
    file: str
    old: str
    new: str


MUTANTS = [
    Mutant(
        "replies of any fingerprint are accepted",
        "encoder-client/src/verify.rs",
        "if response.fingerprint != expected.fingerprint.as_str() {",
        "if response.fingerprint.is_empty() {",
    ),
    Mutant(
        "vectors with NaN are accepted",
        "encoder-client/src/verify.rs",
        "embedding.values.iter().find(|value| !value.is_finite())",
        "embedding.values.iter().find(|_| embedding.values.is_empty())",
    ),
    Mutant(
        "a response states the model that is current at its end",
        "classifier-svc/src/pipeline.rs",
        ".map(|(row, truncated)| response(&model, row, include, truncated))",
        ".map(|(row, truncated)| response(&self.model(), row, include, truncated))",
    ),
    Mutant(
        "texts with the same beginning share a vector",
        "encoder-svc/src/cache.rs",
        "Sha256::digest(text).into()",
        "Sha256::digest(&text.as_bytes()[..text.len().min(7)]).into()",
    ),
    Mutant(
        "a permit is never released",
        "encoder-svc/src/scheduler/admission.rs",
        "limit.texts.dec();\n        self.admitted = None;",
        "std::mem::forget(self.admitted.take());",
    ),
    Mutant(
        "one caller can fill the queue",
        "encoder-svc/src/scheduler/queue.rs",
        "push(share.caller, share.units, entry);",
        "push(service_kit::CallerId::UNKNOWN, share.units, entry);",
    ),
    Mutant(
        "the deadline of a request is ignored",
        "service-kit/src/grpc/deadline.rs",
        ".and_then(parse_timeout)",
        ".and_then(|_: &str| None::<Duration>)",
    ),
    Mutant(
        "silent connections stay open",
        "service-kit/src/net/connect.rs",
        ".keep_alive_while_idle(true);",
        ".http2_keep_alive_interval(Duration::from_secs(3600)).keep_alive_while_idle(true);",
    ),
    Mutant(
        "the vectors of a batch come in another order",
        "encoder-svc/src/grpc.rs",
        "embeddings: replies.into_iter().map(embedding).collect(),",
        "embeddings: replies.into_iter().rev().map(embedding).collect(),",
    ),
    Mutant(
        "the batches of the bulk job come in order of completion",
        "trainer/src/encode/batches.rs",
        ".buffered(calls)",
        ".buffer_unordered(calls)",
    ),
]


def run(command: list[str], folder: Path, **options: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command, cwd=folder, text=True, capture_output=True, check=False, **options)


def build(folder: Path) -> subprocess.CompletedProcess[str]:
    cargo = os.environ.get("CARGO", "cargo").split()
    return run([*cargo, "build", "--quiet", "--locked", "-p", "simulation"], folder)


def first_violation(folder: Path) -> str | None:
    """Returns the first violation of the first seeds, if any."""
    program = folder / "target" / "debug" / "simulate-one"
    for seed in range(1, SEEDS + 1):
        found = run([str(program), "--seed", str(seed)], folder)
        if found.returncode != 0:
            lines = found.stdout.split('"violations":["')[-1].split('"')[0] if found.stdout else found.stderr[-200:]
            return f"seed {seed}: {lines}"
    return None


def main() -> int:
    wanted = sys.argv[1:]
    missed = []
    with tempfile.TemporaryDirectory(dir=ROOT.parent) as parent:
        copy = Path(parent) / "sources"
        subprocess.run(["git", "worktree", "add", "--detach", "--quiet", str(copy), "HEAD"], cwd=ROOT, check=True)
        try:
            # A separate target folder: cargo takes the copy for the same packages and would reuse the builds of mutants
            # for the sources.
            target = ROOT / "target" / "mutants"
            target.mkdir(parents=True, exist_ok=True)
            (copy / "target").symlink_to(target, target_is_directory=True)
            for mutant in MUTANTS:
                if wanted and not any(word in mutant.name for word in wanted):
                    continue
                begin = time.monotonic()
                path = copy / mutant.file
                original = path.read_text()
                if original.count(mutant.old) != 1:
                    print(f"STALE    {mutant.name}: {mutant.file} has changed", flush=True)
                    missed.append(mutant.name)
                    continue
                path.write_text(original.replace(mutant.old, mutant.new))
                built = build(copy)
                found = first_violation(copy) if built.returncode == 0 else None
                if built.returncode != 0:
                    print(built.stderr[-2000:])
                path.write_text(original)
                verdict = "detected" if found else "MISSED  "
                print(f"{verdict} {mutant.name} ({time.monotonic() - begin:.0f} s): {found}", flush=True)
                if not found:
                    missed.append(mutant.name)
        finally:
            subprocess.run(["git", "worktree", "remove", "--force", str(copy)], cwd=ROOT, check=False)
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
