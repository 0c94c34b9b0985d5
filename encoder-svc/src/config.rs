//! The settings as a user writes them, and the checked configuration made from them.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use proto::LARGEST_BATCH;
use serde::{Deserialize, Serialize};
use service_kit::{
    AllowedHosts, ApiKeys, AuthSettings, ConnectionRules, DEFAULT_MAX_CONNECTIONS, Drain, GrpcSettings,
    HttpSettings, ServerTls, ServerTlsSettings, Settings, TelemetrySettings, TraceSettings, connections,
    in_range, listen_address, optional_listen_address, path, positive_seconds, seconds, word,
};

use crate::calibration::AllCoreWorker;
use crate::error::StartError;
use crate::inference::device::Device;
use crate::scheduler::limits::QueueLimits;

/// Bytes in JSON of a byte in UTF-8: a character of two bytes is escaped as `\uXXXX`. Only control
/// characters take more.
const JSON_BYTES: usize = 3;

/// The prefix of environment variables, such as `ENCODER_SVC_LISTEN` and
/// `ENCODER_SVC_ENCODER__BUNDLE`.
pub const ENVIRONMENT_PREFIX: &str = "ENCODER_SVC";
/// The prefix of metric names.
pub const METRICS_PREFIX: &str = "movieclassifier";

/// All settings of encoder-svc.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct EncoderSvcSettings {
    /// The address of the gRPC listener.
    pub listen: String,
    /// The most open connections of the gRPC listener; over it, the one that is idle longest is
    /// closed.
    pub max_connections: usize,
    /// Connections of the gRPC listener.
    pub grpc: GrpcSettings,
    /// The threads that serve calls; 0 means one for every four cores.
    pub call_threads: usize,
    /// At shutdown, the seconds between `NOT_SERVING` and the last new call. Load balancers need
    /// this long to notice.
    pub endpoint_removal_seconds: f64,
    /// The seconds that calls in flight then get to finish.
    pub drain_seconds: f64,
    /// The HTTP listener: `/v1/embeddings`, `/livez`, `/readyz` and `/metrics`.
    pub http: HttpSettings,
    /// TLS for both listeners.
    pub tls: ServerTlsSettings,
    /// The API keys that clients need.
    pub auth: AuthSettings,
    /// The encoder.
    pub encoder: EncoderSettings,
    /// The limits of a request.
    pub limits: LimitSettings,
    /// Logging.
    pub log: TelemetrySettings,
    /// Tracing.
    pub trace: TraceSettings,
}

/// The settings of the encoder.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct EncoderSettings {
    /// The folder of the bundle.
    pub bundle: PathBuf,
    /// ONNX Runtime's library. The default is `ORT_DYLIB_PATH`, then
    /// `.runtime/lib/libonnxruntime.so`.
    pub runtime_library: Option<PathBuf>,
    /// The device that runs the graph.
    #[serde(deserialize_with = "word")]
    pub device: Device,
    /// The index of the GPU, as CUDA numbers them.
    pub device_id: u8,
    /// The most tokens in a batch, padding included. 1 means that each text runs alone; 0 means the
    /// device's default: alone on a CPU, 2,048 tokens with CUDA.
    pub batch_tokens: usize,
    /// The number of sessions, each with one thread. 0 means one for each core; with a GPU, one for
    /// every two cores, at most eight.
    pub sessions: usize,
    /// Whether an online text runs on all cores if no other online text waits or runs: "on", "off",
    /// or "auto" if that is at least 15 % faster, which is measured at startup and by such texts.
    #[serde(deserialize_with = "word")]
    pub all_core_worker: AllCoreWorker,
    /// The threads of the all-core worker; 0 means all cores.
    pub all_core_threads: usize,
    /// The niceness of single-core workers, 0 to 19 as for `nice`. A higher value gives more
    /// precedence to a lone online text, the threads that serve calls and other programs.
    pub worker_niceness: usize,
    /// The longest expected time from the arrival of an online text to its vector, in milliseconds.
    /// A request that would take longer is rejected.
    pub max_queue_ms: usize,
    /// The longest expected time from the arrival of a bulk text to its vector, in milliseconds.
    pub max_bulk_queue_ms: usize,
    /// The size of the vector cache in mebibytes; 0 means no cache.
    pub cache_mib: usize,
    /// Whether bulk texts use the cache too.
    pub cache_bulk: bool,
}

/// The limits of a request.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct LimitSettings {
    /// The most texts in one `Encode` call.
    pub max_batch_size: usize,
    /// The most UTF-8 bytes in one text.
    pub max_text_bytes: usize,
    /// The most texts of one stream in flight. 0 means the device's default: 64 on a CPU, 512 with
    /// CUDA.
    pub stream_in_flight: usize,
    /// The most texts in flight over all calls, cached ones included. A text counts as one for each
    /// 4 KiB that it has or begins. One caller gets at most half, or one call of any size. 0 means
    /// 64 times `max_batch_size`.
    pub texts_in_flight: usize,
}

impl Settings for EncoderSvcSettings {
    const RENAMED_KEYS: &'static [(&'static str, &'static str)] = &[
        ("encoder.lone_text_threads", "encoder.all_core_threads"),
        ("encoder.session_niceness", "encoder.worker_niceness"),
    ];
}

impl Default for EncoderSvcSettings {
    fn default() -> Self {
        Self {
            listen: "127.0.0.1:50051".to_owned(),
            max_connections: DEFAULT_MAX_CONNECTIONS,
            grpc: GrpcSettings::default(),
            call_threads: 0,
            endpoint_removal_seconds: 0.0,
            drain_seconds: 10.0,
            http: HttpSettings::default(),
            tls: ServerTlsSettings::default(),
            auth: AuthSettings::default(),
            encoder: EncoderSettings::default(),
            limits: LimitSettings::default(),
            log: TelemetrySettings::default(),
            trace: TraceSettings::default(),
        }
    }
}

impl Default for EncoderSettings {
    fn default() -> Self {
        Self {
            bundle: ".runtime/bundles/minilm-512".into(),
            runtime_library: None,
            device: Device::Cpu,
            device_id: 0,
            batch_tokens: 0,
            sessions: 0,
            all_core_worker: AllCoreWorker::Auto,
            all_core_threads: 0,
            worker_niceness: 12,
            max_queue_ms: 2_000,
            max_bulk_queue_ms: 30_000,
            cache_mib: 32,
            cache_bulk: false,
        }
    }
}

impl Default for LimitSettings {
    fn default() -> Self {
        Self { max_batch_size: 256, max_text_bytes: 32 << 10, stream_in_flight: 0, texts_in_flight: 0 }
    }
}

/// Checked configuration of encoder-svc.
#[derive(Debug, Clone)]
pub struct EncoderSvcConfig {
    /// The address of the gRPC listener.
    pub listen: SocketAddr,
    /// The most open connections of the gRPC listener, at least 1.
    pub max_connections: usize,
    /// The rules of each connection of the gRPC listener.
    pub connection_rules: ConnectionRules,
    /// The timing of a shutdown.
    pub drain: Drain,
    /// The address of the HTTP listener, if there is one.
    pub http_listen: Option<SocketAddr>,
    /// The most open connections of the HTTP listener, at least 1.
    pub max_http_connections: usize,
    /// The time for a whole HTTP request.
    pub http_timeout: Duration,
    /// The host names under which the HTTP listener answers.
    pub allowed_hosts: AllowedHosts,
    /// TLS for both listeners, if it is on.
    pub tls: Option<ServerTls>,
    /// The API keys that clients need; `None` if clients need none.
    pub keys: Option<ApiKeys>,
    /// The encoder.
    pub encoder: EncoderConfig,
    /// The limits of a request.
    pub limits: Limits,
    /// Logging.
    pub log: TelemetrySettings,
    /// Tracing.
    pub trace: TraceSettings,
}

/// Checked [`EncoderSettings`].
#[derive(Debug, Clone)]
pub struct EncoderConfig {
    /// The folder of the bundle.
    pub bundle: PathBuf,
    /// ONNX Runtime's library, if it is not the default one.
    pub runtime_library: Option<PathBuf>,
    /// The device that runs the graph.
    pub device: Device,
    /// The number of the GPU.
    pub device_id: i32,
    /// The most tokens in a batch; `None` if each text runs alone.
    pub batch_tokens: Option<usize>,
    /// The number of single-core workers, at least 1.
    pub sessions: usize,
    /// Whether a lone online text runs on all cores.
    pub all_core_worker: AllCoreWorker,
    /// The threads of the all-core worker, at least 1.
    pub all_core_threads: usize,
    /// The niceness of single-core workers, 0 to 19.
    pub worker_niceness: u8,
    /// The longest expected time from the arrival of a text to its vector, for each class.
    pub queue_limits: QueueLimits,
    /// The size of the cache; 0 means no cache.
    pub cache_bytes: u64,
    /// Whether bulk texts use the cache too.
    pub cache_bulk: bool,
}

/// Checked [`LimitSettings`].
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// The most texts in a call, at least 1.
    pub max_batch_size: usize,
    /// The most bytes in a text, at least 1.
    pub max_text_bytes: usize,
    /// The most texts of a stream in flight, at least 1.
    pub stream_in_flight: usize,
    /// The most texts of all calls in flight, at least 1. A text counts as one for each 4 KiB that it
    /// has or begins.
    pub texts_in_flight: usize,
}

impl Limits {
    /// The bytes of the largest request that these limits allow, with room for the fields around
    /// the texts.
    #[must_use]
    pub fn max_message_bytes(self) -> usize {
        self.max_bytes(1)
    }

    /// The bytes of the largest JSON request that these limits allow, with every character outside
    /// of ASCII escaped.
    #[must_use]
    pub fn max_json_bytes(self) -> usize {
        self.max_bytes(JSON_BYTES)
    }

    fn max_bytes(self, bytes_per_byte: usize) -> usize {
        let text = self.max_text_bytes.saturating_mul(bytes_per_byte).saturating_add(16);
        self.max_batch_size.saturating_mul(text).saturating_add(1024)
    }
}

const MAX_CALL_THREADS: usize = 1024;

fn cores() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}

impl EncoderSvcConfig {
    /// The bytes of the largest request of any listener, for which the memory budget has room.
    #[must_use]
    pub fn largest_message_bytes(&self) -> usize {
        match self.http_listen {
            Some(_) => self.limits.max_json_bytes(),
            None => self.limits.max_message_bytes(),
        }
    }
}

impl EncoderSvcSettings {
    /// The number of threads of the runtime that serves calls, at least 1.
    #[must_use]
    pub fn call_threads(&self) -> usize {
        match self.call_threads {
            // Serving a call is far cheaper than encoding its texts, and every additional thread
            // that wakes up takes a core from a worker.
            0 => cores().div_ceil(4),
            // A larger number is rejected later, with the other settings.
            threads => threads.min(MAX_CALL_THREADS),
        }
    }
}

impl TryFrom<EncoderSvcSettings> for EncoderSvcConfig {
    type Error = StartError;

    fn try_from(settings: EncoderSvcSettings) -> Result<Self, StartError> {
        in_range("call_threads", settings.call_threads, 0, MAX_CALL_THREADS)?;
        let device = settings.encoder.device;
        let encoder = EncoderConfig::try_from(settings.encoder)?;
        let limits = settings.limits;
        let http_listen = optional_listen_address("http.listen", &settings.http.listen)?;
        let allowed_hosts = match http_listen {
            None => AllowedHosts::Any,
            Some(listen) => AllowedHosts::new(
                "http.allowed_hosts",
                &settings.http.allowed_hosts,
                listen,
                !settings.auth.keys.is_empty(),
            )?,
        };
        Ok(Self {
            listen: listen_address("listen", &settings.listen)?,
            max_connections: connections("max_connections", settings.max_connections)?,
            connection_rules: settings.grpc.to_rules()?,
            drain: Drain {
                removal: seconds("endpoint_removal_seconds", settings.endpoint_removal_seconds)?,
                finish: seconds("drain_seconds", settings.drain_seconds)?,
            },
            http_listen,
            allowed_hosts,
            max_http_connections: connections("http.max_connections", settings.http.max_connections)?,
            http_timeout: positive_seconds("http.timeout_seconds", settings.http.timeout_seconds)?,
            tls: ServerTls::new(&settings.tls)?,
            keys: ApiKeys::new(&settings.auth)?,
            limits: Limits {
                max_batch_size: in_range("limits.max_batch_size", limits.max_batch_size, 1, LARGEST_BATCH)?,
                max_text_bytes: in_range("limits.max_text_bytes", limits.max_text_bytes, 1, 1 << 24)?,
                stream_in_flight: match in_range(
                    "limits.stream_in_flight",
                    limits.stream_in_flight,
                    0,
                    1 << 16,
                )? {
                    0 => device.stream_in_flight(),
                    texts => texts,
                },
                texts_in_flight: match in_range("limits.texts_in_flight", limits.texts_in_flight, 0, 1 << 24)?
                {
                    0 => limits.max_batch_size.saturating_mul(64),
                    texts => texts,
                },
            },
            encoder,
            log: settings.log.checked()?,
            trace: settings.trace.checked()?,
        })
    }
}

impl TryFrom<EncoderSettings> for EncoderConfig {
    type Error = StartError;

    fn try_from(settings: EncoderSettings) -> Result<Self, StartError> {
        let cores = cores();
        let or = |default, setting| if setting == 0 { default } else { setting };
        let sessions = or(settings.device.sessions(cores), settings.sessions);
        let all_core_threads = or(cores, settings.all_core_threads);
        let batch_tokens = in_range("encoder.batch_tokens", settings.batch_tokens, 0, 1 << 20)?;
        let milliseconds =
            |name, value| in_range(name, value, 1, 600_000).map(|ms| Duration::from_millis(ms as u64));
        Ok(Self {
            bundle: path("encoder.bundle", settings.bundle)?,
            runtime_library: settings.runtime_library,
            device: settings.device,
            device_id: settings.device_id.into(),
            batch_tokens: match batch_tokens {
                0 => settings.device.batch_tokens(),
                1 => None,
                tokens => Some(tokens),
            },
            sessions: in_range("encoder.sessions", sessions, 1, 1024)?,
            all_core_worker: settings.all_core_worker,
            all_core_threads: in_range("encoder.all_core_threads", all_core_threads, 1, 1024)?,
            worker_niceness: in_range("encoder.worker_niceness", settings.worker_niceness, 0, 19)? as u8,
            queue_limits: QueueLimits {
                online: milliseconds("encoder.max_queue_ms", settings.max_queue_ms)?,
                bulk: milliseconds("encoder.max_bulk_queue_ms", settings.max_bulk_queue_ms)?,
            },
            cache_bytes: in_range("encoder.cache_mib", settings.cache_mib, 0, 1 << 20)? as u64 * (1 << 20),
            cache_bulk: settings.cache_bulk,
        })
    }
}

#[cfg(test)]
mod tests;
