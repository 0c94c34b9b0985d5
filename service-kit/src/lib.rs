//! What both services stand in, so that neither has code of its own for it: settings, telemetry, error codes,
//! deadlines, the gRPC server around the handlers, and shutdown. It knows neither of the services.

mod api_error;
mod deadline;
mod grpc_server;
mod healthcheck;
mod listener;
mod message_limit;
mod setting_check;
mod settings;
mod shutdown;
mod telemetry;
mod text_limits;

pub use api_error::{ApiError, FieldViolation, ItemError};
pub use deadline::{Deadline, DeadlineLayer};
pub use grpc_server::{GrpcServer, Health, ServeError};
pub use healthcheck::{HealthcheckError, healthcheck};
pub use listener::{ListenError, listen};
pub use setting_check::{InvalidSetting, in_range, listen_address, seconds};
pub use settings::{Overrides, SettingsError, load_settings};
pub use shutdown::{Shutdown, shutdown_on_signals};
pub use telemetry::{LogFormat, TelemetrySettings, init_telemetry};
pub use text_limits::check_text;
