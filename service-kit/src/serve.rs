//! Serving both listeners of a service until shutdown.

use axum::Router;
use tower::ServiceExt as _;

use crate::memory::ConnectionLimit;
use crate::net::incoming::Incoming;
use crate::net::server::{Listens, serve_connections};
use crate::{GrpcServer, Listeners, ServerTls, Shutdown, canonical_path};

/// The most connections of an HTTP listener if nothing else is set.
pub const DEFAULT_MAX_HTTP_CONNECTIONS: usize = 1024;

/// Serves `grpc` on the gRPC listener and `http` on the HTTP listener, if there is one, until both
/// have drained.
///
/// Both listeners use `tls` if it is given, and share the memory budget of `grpc`.
pub async fn serve(
    grpc: GrpcServer,
    http: Router,
    max_http_connections: usize,
    listeners: Listeners,
    tls: Option<ServerTls>,
    shutdown: Shutdown,
) {
    let drain = grpc.drain().finish;
    let closing = grpc.closing_after(shutdown);
    // The listeners share their certificates, so one watch serves both.
    if let Some(tls) = &tls {
        tls.watch(closing.clone());
    }
    let http_limit = ConnectionLimit::new(grpc.memory(), max_http_connections);
    let grpc_limit = grpc.connection_limit();
    let grpc_connections = Incoming::new(listeners.grpc, tls.clone(), grpc_limit, closing.clone());
    let http = async {
        if let Some(listener) = listeners.http {
            let connections = Incoming::new(listener, tls, http_limit, closing.clone());
            // Before the routes are matched.
            let http = http.map_request(canonical_path);
            serve_connections(connections, Listens::Http, http, drain, closing.clone()).await;
        }
    };
    tokio::join!(grpc.serve_until(grpc_connections, closing.clone()), http);
}
