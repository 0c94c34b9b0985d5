"""Defects in the product's own sources, one at a time, each of which the simulation must notice within a few seeds.

    python3 tools/simulation/mutants/run.py [NAME ...]

Works on a copy of the committed sources, which is built in debug. What a mutant changes must stand in the sources exactly once, so
that a list that has fallen behind them fails.
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
        "the classifier takes vectors of any fingerprint",
        "classifier-svc/src/encoder_pool/answer.rs",
        "if answer.fingerprint != expected.fingerprint.as_str() {",
        "if answer.fingerprint.is_empty() {",
    ),
    Mutant(
        "the classifier takes vectors that are no numbers",
        "classifier-svc/src/encoder_pool/answer.rs",
        "if embedding.values.iter().any(|value| !value.is_finite()) {",
        "if embedding.values.is_empty() {",
    ),
    Mutant(
        "the bulk job takes vectors of any fingerprint",
        "trainer/src/encode/encoder_client.rs",
        "if answer.fingerprint != identity.fingerprint.as_str() {",
        "if answer.fingerprint.is_empty() {",
    ),
    Mutant(
        "an answer states the model that is current at its end",
        "classifier-svc/src/classifier.rs",
        ".map(|(row, truncated)| answer(&model, row, wanted, truncated))",
        ".map(|(row, truncated)| answer(&self.model(), row, wanted, truncated))",
    ),
    Mutant(
        "texts that begin alike share a vector",
        "encoder-svc/src/cache.rs",
        "let found = self.cache.try_get_with(key(text), marked).await;",
        "let found = self.cache.try_get_with(key(&text[..text.len().min(7)]), marked).await;",
    ),
    Mutant(
        "a text's permit is never freed",
        "encoder-svc/src/scheduler/admission.rs",
        "limit.admitted.fetch_sub(self.units, Ordering::Relaxed);\n        limit.texts.dec();",
        "limit.admitted.fetch_sub(0, Ordering::Relaxed);",
    ),
    Mutant(
        "a caller's deadline is not read",
        "service-kit/src/grpc/deadline.rs",
        ".and_then(parse_timeout)",
        ".and_then(|_: &str| None::<Duration>)",
    ),
    Mutant(
        "silent connections are kept",
        "service-kit/src/net/connect.rs",
        ".keep_alive_while_idle(true);",
        ".http2_keep_alive_interval(Duration::from_secs(3600)).keep_alive_while_idle(true);",
    ),
    Mutant(
        "a batch's vectors come in another order",
        "encoder-svc/src/grpc.rs",
        "embeddings: replies.into_iter().map(embedding).collect(),",
        "embeddings: replies.into_iter().rev().map(embedding).collect(),",
    ),
    Mutant(
        "parts of the bulk job are put together as they come",
        "trainer/src/encode/batches.rs",
        ".buffered(in_flight.max(1) * client.replicas())",
        ".buffer_unordered(in_flight.max(1) * client.replicas())",
    ),
]


def run(command: list[str], folder: Path, **options: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command, cwd=folder, text=True, capture_output=True, check=False, **options)


def build(folder: Path) -> subprocess.CompletedProcess[str]:
    cargo = os.environ.get("CARGO", "cargo").split()
    return run([*cargo, "build", "--quiet", "--locked", "-p", "simulation"], folder)


def noticed(folder: Path) -> str | None:
    """The first violation of the first seeds, if there is one."""
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
    with tempfile.TemporaryDirectory(dir=ROOT.parent) as place:
        copy = Path(place) / "sources"
        subprocess.run(["git", "worktree", "add", "--detach", "--quiet", str(copy), "HEAD"], cwd=ROOT, check=True)
        try:
            # Not the target folder of the sources themselves: cargo takes the copy for the same packages, and would have what is left
            # of the last mutant for theirs.
            target = ROOT / "target" / "mutants"
            target.mkdir(parents=True, exist_ok=True)
            (copy / "target").symlink_to(target, target_is_directory=True)
            for mutant in MUTANTS:
                if wanted and not any(word in mutant.name for word in wanted):
                    continue
                begin = time.monotonic()
                path = copy / mutant.file
                sound = path.read_text()
                if sound.count(mutant.old) != 1:
                    print(f"STALE   {mutant.name}: {mutant.file} has changed", flush=True)
                    missed.append(mutant.name)
                    continue
                path.write_text(sound.replace(mutant.old, mutant.new))
                built = build(copy)
                found = noticed(copy) if built.returncode == 0 else None
                if built.returncode != 0:
                    print(built.stderr[-2000:])
                path.write_text(sound)
                verdict = "noticed" if found else "MISSED "
                print(f"{verdict} {mutant.name} ({time.monotonic() - begin:.0f} s): {found}", flush=True)
                if not found:
                    missed.append(mutant.name)
        finally:
            subprocess.run(["git", "worktree", "remove", "--force", str(copy)], cwd=ROOT, check=False)
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
