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
    /// Starts the binary on a free port, without a cache: here every text is to be run. `traces` is a collector's address.
    ///
    /// # Panics
    /// If it cannot be started, or is not ready within half a minute.
    pub async fn start(binary: &Path, bundle: &Path, traces: Option<&str>) -> Self {
        let free = || TcpListener::bind("127.0.0.1:0").and_then(|socket| socket.local_addr());
        let address = free().unwrap_or_else(|error| panic!("{error}")).to_string();
        let url = format!("http://{address}");
        let begin = Instant::now();
        let child = Command::new(binary)
            .args(["serve", "--listen", &address, "--http-listen", "", "--bundle"])
            .arg(bundle)
            .env("ENCODER_SVC_ENCODER__CACHE_MIB", "0")
            .env("ENCODER_SVC_TRACE__ENDPOINT", traces.unwrap_or_default())
            .env_remove("OTEL_EXPORTER_OTLP_ENDPOINT")
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
