//! HTTP/2 on the server's side, on h2.
//!
//! hyper's server does not fit. It cannot reset a stream whose client reads nothing, because it
//! looks at neither the body nor the handler while it waits for the client's window. It opens a
//! stream's window as soon as it has received bytes, not when the handler has read them. And it
//! does not expose h2's limit on small DATA frames, which ends connections of well-behaved clients.

mod connection;
mod rules;
mod stream;

pub(crate) use connection::{head_bytes, serve_http2};
pub(crate) use rules::ConnectionAge;
pub use rules::ConnectionRules;
pub(crate) use stream::CallService;

#[cfg(test)]
mod tests;
