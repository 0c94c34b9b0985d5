"""The trainer's jobs with encoders that ask for TLS and API keys, as the components configure both."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

pytest.importorskip("kubernetes_validate", reason="needs a separate environment: run `make test-deploy`")
from manifests import BINARIES, CALLING, ROOT, Manifest, named, of_kind, pod, variables_of  # noqa: E402
from running import free_ports, process, skip_without_services  # noqa: E402
from tls_secrets import MOUNT, Authority  # noqa: E402

COMPONENTS = "tls+api-keys"


def container_of(name: str) -> Manifest:
    (job,) = of_kind(name, "Job")
    (container,) = pod(job)["containers"]
    return dict(container)


@pytest.mark.parametrize("name", CALLING)
def test_a_job_gets_the_authority_but_no_private_key(name: str) -> None:
    (job,) = of_kind(f"{name}+{COMPONENTS}", "Job")
    volumes = {volume["name"]: volume for volume in pod(job)["volumes"]}
    assert [item["key"] for item in volumes["tls"]["secret"]["items"]] == ["ca.crt"]
    variables = variables_of(container_of(f"{name}+{COMPONENTS}"))
    assert variables["TRAINER_ENCODER__URL"].startswith("https://")
    assert variables_of(container_of(name))["TRAINER_ENCODER__URL"].startswith("http://")


@pytest.mark.parametrize("name", ["trainer/encode", "trainer/classify"])
def test_a_job_runs_against_encoders_with_tls_and_keys(name: str, tmp_path: Path) -> None:
    skip_without_services()
    secret, claim = tmp_path / "secret", tmp_path / "movies"
    Authority(tmp_path / "authority").issue(secret, "encoder")
    (claim / "new").mkdir(parents=True)
    row = "{0},Movie {0},A gunslinger rides into town {0}.,\"[{{'id': 37, 'name': 'Western'}}]\"\n"
    movies = "id,title,overview,genres\n" + "".join(row.format(number) for number in range(1, 13))
    for path in (claim / "movies_metadata.csv", claim / "new" / "movies.csv"):
        path.write_text(movies)
    (encoder,) = pod(named("overlays/production+" + COMPONENTS, "Deployment", "encoder"))["containers"]
    port, http = free_ports(2)
    command = [BINARIES / "encoder-svc", "serve", "--listen", f"127.0.0.1:{port}", "--http-listen", f"127.0.0.1:{http}"]
    settings = {name: value.replace(MOUNT, str(secret)) for name, value in variables_of(encoder).items()}

    container = container_of(f"{name}+{COMPONENTS}")
    variables = {name: value.replace(MOUNT, str(secret)) for name, value in variables_of(container).items()}
    # Here no DNS knows `encoder`, but its certificate is still checked by that name.
    assert variables["TRAINER_ENCODER__URL"] == "https://encoder:50051"
    variables |= {"TRAINER_ENCODER__URL": f"https://127.0.0.1:{port}", "TRAINER_ENCODER__TLS__SERVER_NAME": "encoder"}
    variables["JOB_COMPLETION_INDEX"] = "1"
    arguments = [argument.replace("/movies/", f"{claim}/", 1) for argument in container["args"]]

    def run(variables: dict[str, str]) -> subprocess.CompletedProcess[str]:
        clean = {name: value for name, value in os.environ.items() if not name.startswith("TRAINER_ENCODER_")}
        job = [BINARIES / "trainer", *arguments]
        return subprocess.run(job, cwd=ROOT, env=clean | variables, capture_output=True, text=True, check=False)

    with process(command, ROOT, settings):
        done = run(variables)
        assert done.returncode == 0, done.stderr
        (folder,) = (folder for folder in (claim / "vectors", claim / "genres") if folder.exists())
        shard = folder / f"shard-00001-of-0000{variables['JOB_COMPLETIONS']}.parquet"
        assert shard.is_file()
        del variables["TRAINER_ENCODER__API_KEY"]
        denied = run(variables | {"JOB_COMPLETION_INDEX": "2"})
    assert denied.returncode == 1 and "TRAINER_ENCODER__API_KEY" in denied.stderr, denied.stderr
