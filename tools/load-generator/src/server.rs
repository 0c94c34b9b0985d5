//! The real encoder-svc in a process of its own.

use std::net::TcpListener;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// A running encoder; killed when dropped.
pub struct Server {
    child: Child,
    /// Where it listens.
    pub url: String,
    /// From its start to the first answer that it serves.
    pub ready: Duration,
}

impl Server {
    /// Starts the binary on a free port, without a cache: here every text is to be run. `settings` are further variables.
    ///
    /// # Panics
    /// If it cannot be started, or is not ready within half a minute.
    pub async fn start(binary: &Path, bundle: &Path, settings: &[(&str, &str)]) -> Self {
        let free = || TcpListener::bind("127.0.0.1:0").and_then(|socket| socket.local_addr());
        let address = free().unwrap_or_else(|error| panic!("{error}")).to_string();
        let url = format!("http://{address}");
        let begin = Instant::now();
        let child = Command::new(binary)
            .args(["serve", "--listen", &address, "--http-listen", "", "--bundle"])
            .arg(bundle)
            .env("ENCODER_SVC_ENCODER__CACHE_MIB", "0")
            .env("ENCODER_SVC_TRACE__ENDPOINT", "")
            .env_remove("OTEL_EXPORTER_OTLP_ENDPOINT")
            .envs(settings.iter().copied())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap_or_else(|error| panic!("{}: {error}", binary.display()));
        let mut server = Self { child, url, ready: Duration::ZERO };
        while begin.elapsed() < Duration::from_secs(30) {
            if service_kit::healthcheck(&server.url, Duration::from_millis(500), None).await.is_ok() {
                server.ready = begin.elapsed();
                return server;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        panic!("{} is not ready after 30 s", binary.display());
    }

    /// Seconds of processors that its threads have had so far; 0 where the system does not tell.
    #[must_use]
    pub fn processor_seconds(&self) -> f64 {
        let threads = std::fs::read_dir(format!("/proc/{}/task", self.child.id()));
        let threads = threads.into_iter().flatten().flatten();
        threads.map(|thread| processor_seconds(&thread.path().join("schedstat"))).sum()
    }

    /// A figure of `/proc/PID/status` in mebibytes, such as `VmRSS` or `VmHWM`; 0 where there is none.
    #[must_use]
    pub fn memory_mib(&self, name: &str) -> f64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id())).unwrap_or_default();
        let line = status.lines().find(|line| line.starts_with(name));
        line.and_then(|line| line.split_whitespace().nth(1)?.parse().ok())
            .map_or(0.0, |kib: f64| kib / 1024.0)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Seconds of processors in a `schedstat` of `/proc`; 0 where there is none.
#[must_use]
pub fn processor_seconds(schedstat: &Path) -> f64 {
    let nanoseconds = std::fs::read_to_string(schedstat).unwrap_or_default();
    nanoseconds.split(' ').next().and_then(|first| first.parse().ok()).map_or(0.0, |count: f64| count / 1e9)
}
