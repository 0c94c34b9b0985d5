//! TLS and mutual TLS for every listener and client, with certificates that may be replaced while they are in use.
//!
//! A connection is made with the certificates of its moment; those that are open live on.

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
