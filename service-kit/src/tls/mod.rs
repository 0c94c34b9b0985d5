//! TLS and mutual TLS for listeners and clients, with certificates that are reloaded when their
//! files change.
//!
//! A reload affects new connections only.

mod client;
mod material;
mod reload;
mod server;
mod settings;

pub use client::ClientTls;
pub(crate) use client::bare_host;
pub use material::TlsError;
pub use server::ServerTls;
pub use settings::{ClientTlsSettings, ServerTlsSettings};
