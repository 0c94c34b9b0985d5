//! encoder-svc in a separate process.

use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use service_kit::Target;

use crate::load::Client;

/// Options that choose what is measured.
#[derive(clap::Args)]
pub struct ServerArguments {
    /// The encoder-svc binary to measure; an older build works too
    #[arg(long, value_name = "BINARY", default_value = "target/release/encoder-svc")]
    pub encoder_svc: PathBuf,
    /// The encoder bundle that both encoder-svc and ONNX Runtime alone run
    #[arg(long, value_name = "FOLDER", default_value = ".runtime/bundles/minilm-512")]
    pub bundle: PathBuf,
}

/// A running encoder-svc, killed on drop.
pub struct Server {
    child: Child,
    url: String,
    /// Time from the start of the process until it was ready.
    pub ready: Duration,
}

impl Server {
    /// Starts the binary on a free port, without a cache, so that every text is run. `settings` are
    /// environment variables.
    pub async fn start(arguments: &ServerArguments, settings: &[(&str, &str)]) -> Self {
        let free = TcpListener::bind("127.0.0.1:0").and_then(|socket| socket.local_addr());
        let address = free.unwrap_or_else(|error| panic!("found no free port: {error}")).to_string();
        let binary = arguments.encoder_svc.display();
        let begin = Instant::now();
        let child = Command::new(&arguments.encoder_svc)
            .args(["serve", "--listen", &address, "--http-listen", "", "--bundle"])
            .arg(&arguments.bundle)
            .env("ENCODER_SVC_ENCODER__CACHE_MIB", "0")
            .env("ENCODER_SVC_TRACE__ENDPOINT", "")
            .env_remove("OTEL_EXPORTER_OTLP_ENDPOINT")
            .envs(settings.iter().copied())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap_or_else(|error| panic!("cannot start {binary}: {error}"));
        let mut server = Self { child, url: format!("http://{address}"), ready: Duration::ZERO };
        while begin.elapsed() < Duration::from_secs(30) {
            if service_kit::healthcheck(&server.url, Duration::from_millis(500), None).await.is_ok() {
                server.ready = begin.elapsed();
                return server;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        panic!("{binary} is not ready after 30 s");
    }

    /// The address for clients.
    #[must_use]
    pub fn url(&self) -> &str {
        &self.url
    }

    /// Returns a client with its own connection.
    #[must_use]
    pub fn client(&self) -> Client {
        let target = Target::parse(&self.url).expect("a socket address is a valid target");
        Client::new(target.channel(None, None))
    }

    /// Returns the CPU seconds that the process has used; 0 without `/proc`.
    #[must_use]
    pub fn cpu_seconds(&self) -> f64 {
        let threads = std::fs::read_dir(format!("/proc/{}/task", self.child.id()));
        let threads = threads.into_iter().flatten().flatten();
        threads.map(|thread| schedstat_seconds(&thread.path().join("schedstat"))).sum()
    }

    /// Returns a field of `/proc/PID/status` in mebibytes, such as `VmRSS` or `VmHWM`; 0 without
    /// `/proc`.
    #[must_use]
    pub fn memory_mib(&self, name: &str) -> f64 {
        memory_mib(self.child.id(), name)
    }
}

/// Returns a field of `/proc/PID/status` of a process in mebibytes; 0 without `/proc`.
#[must_use]
pub fn memory_mib(process: u32, name: &str) -> f64 {
    let status = std::fs::read_to_string(format!("/proc/{process}/status")).unwrap_or_default();
    let line = status.lines().find(|line| line.starts_with(name));
    line.and_then(|line| line.split_whitespace().nth(1)?.parse().ok()).map_or(0.0, |kib: f64| kib / 1024.0)
}

impl Drop for Server {
    fn drop(&mut self) {
        // The process may have ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Returns the CPU seconds that the calling thread has used; 0 without `/proc`.
#[must_use]
pub fn own_cpu_seconds() -> f64 {
    schedstat_seconds("/proc/thread-self/schedstat".as_ref())
}

fn schedstat_seconds(schedstat: &Path) -> f64 {
    let nanoseconds = std::fs::read_to_string(schedstat).unwrap_or_default();
    nanoseconds.split(' ').next().and_then(|first| first.parse().ok()).map_or(0.0, |count: f64| count / 1e9)
}
