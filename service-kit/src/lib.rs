//! What both services stand in, so that neither has code of its own for it: settings, telemetry, error codes,
//! deadlines, TLS, API keys, the gRPC and HTTP servers around the handlers, and shutdown. It knows neither of the services.

mod api_error;
mod auth;
mod command_line;
mod connect;
mod deadline;
mod file_watch;
mod grpc_server;
mod healthcheck;
mod http_server;
mod incoming;
mod listener;
mod message_limit;
mod metrics;
mod problem;
mod secret;
mod setting_check;
mod settings;
mod shutdown;
mod telemetry;
mod text_limits;
mod tls;

pub use api_error::{ApiError, FieldViolation, ItemError, PUSHBACK};
pub use auth::{ApiKeySettings, ApiKeys, AuthLayer, AuthSettings};
pub use command_line::{ClientTlsArgs, HealthcheckArgs, in_words, run_command};
pub use connect::{InvalidTarget, Target};
pub use deadline::{Deadline, DeadlineLayer};
pub use file_watch::FileWatch;
pub use grpc_server::{GrpcServer, Health, ServeError};
pub use healthcheck::{HealthcheckError, healthcheck};
pub use http_server::{HttpSettings, Readiness, operations_routes, serve_http};
pub use incoming::{Connection, Incoming};
pub use listener::{ListenError, Listeners, listen};
pub use metrics::Metrics;
pub use problem::{FieldProblem, PROBLEM_CONTENT_TYPE, Problem};
pub use secret::Secret;
pub use setting_check::{InvalidSetting, in_range, listen_address, optional_listen_address, seconds};
pub use settings::{Overrides, SettingsError, load_settings};
pub use shutdown::{Shutdown, shutdown_on_signals};
pub use telemetry::{LogFormat, TelemetrySettings, init_telemetry};
pub use text_limits::{check_text, check_text_length, is_blank};
pub use tls::{ClientTls, ClientTlsSettings, ServerTls, ServerTlsSettings, TlsError};
