//! The infrastructure of a service: settings, telemetry, error codes, deadlines, TLS, API keys, the
//! gRPC and HTTP servers around its handlers, and shutdown.
//!
//! No service and no RPC is defined here. Modules depend on each other in one direction.
//! [`serve()`] uses `grpc` and `http`, which use `net` and `telemetry`. `net` uses `http2`, which
//! uses `body` and `memory`. `fair` shares work between the callers of `auth`. `auth`, `tls`,
//! `config` and `file_watch` are below them, and all of them may use `error`, which uses none of
//! them.

mod auth;
mod body;
mod command_line;
mod config;
mod deadline;
mod error;
mod fair;
mod file_watch;
mod grpc;
mod healthcheck;
mod http;
mod http2;
mod memory;
mod net;
mod readiness;
mod serve;
mod shutdown;
mod telemetry;
mod text_limits;
mod tls;

pub use auth::{
    API_KEY, ApiKeySettings, ApiKeys, AuthSettings, CALLER_TAG, Caller, CallerId, require_api_key,
};
pub use command_line::{
    ClientTlsArgs, HealthcheckArgs, print, report, run_command, run_command_on_threads, until_reader_left,
};
pub use config::error::SettingsError;
pub use config::keys::keys;
pub use config::redaction::{redact_urls, serialize_redacted};
pub use config::secret::Secret;
pub use config::setting_check::{
    InvalidSetting, connections, in_range, listen_address, optional_listen_address, path, positive_seconds,
    seconds, word,
};
pub use config::settings::{
    Overrides, Settings, documented_keys, load_settings, load_settings_from, print_settings,
};
pub use config::sweep::{OneVariable, impossible_numbers, load_each, unchangeable_keys};
pub use deadline::Deadline;
pub use error::{ApiError, FieldViolation, ItemError, NOT_SERVED, PUSHBACK, SERVICES};
pub use fair::{FairLimit, FairPermit, FairQueue, amount_of};
pub use file_watch::FileWatch;
pub use grpc::decode_error::malformed_item;
pub use grpc::health::Health;
pub use grpc::message_budget::{BudgetedBody, MessageBudget};
pub use grpc::server::{DEFAULT_MAX_CONNECTIONS, GrpcServer, ServeError};
pub use grpc::settings::GrpcSettings;
pub use grpc::web::{GRPC_WEB_REQUEST_HEADERS, GRPC_WEB_RESPONSE_HEADERS, is_grpc_web};
pub use healthcheck::{HealthcheckError, healthcheck};
pub use http::allowed_hosts::AllowedHosts;
pub use http::bounded_list::bounded_list;
pub use http::canonical_path::canonical_path;
pub use http::json_body::{BodyLimits, JsonBody, RawBody, parse_json};
pub use http::object::Object;
#[cfg(feature = "openapi")]
pub use http::openapi::{ErrorForm, NOT_BLANK, describe_errors_and_keys, openapi_route, operations};
pub use http::problem::{FieldProblem, PROBLEM_CONTENT_TYPE, Problem};
pub use http::server::{DEFAULT_MAX_HTTP_CONNECTIONS, HttpSettings, operations_routes};
pub use http::stack::{guard_api, http_stack, method_not_allowed, with_error_body};
pub use http2::ConnectionRules;
pub use memory::MemoryBudget;
pub use net::connect::{InvalidTarget, Target};
pub use net::listener::{ListenError, Listeners, listen};
pub use net::transport::{Io, Transport};
pub use readiness::Readiness;
pub use serve::serve;
pub use shutdown::{Drain, Shutdown, shutdown_on_signals};
pub use telemetry::logs_and_traces::{
    LogFormat, Telemetry, TelemetryError, TelemetrySettings, TraceSettings, init_telemetry,
};
pub use telemetry::metrics::{Metrics, latency_histogram};
pub use telemetry::trace_context::{TraceLayer, propagate_trace};
pub use text_limits::{check_text, check_text_length, is_blank};
pub use tls::{ClientTls, ClientTlsSettings, ServerTls, ServerTlsSettings, TlsError};
