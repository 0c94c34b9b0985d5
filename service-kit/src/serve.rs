//! Serving both listeners of a service until shutdown.

use axum::Router;

use crate::http::server::serve_http;
use crate::net::incoming::Incoming;
use crate::{GrpcServer, Listeners, ServeError, ServerTls, Shutdown};

/// Serves `grpc` on the gRPC listener and `http` on the HTTP listener, if there is one, until both
/// have drained.
///
/// Both listeners use `tls` if it is given.
///
/// # Errors
/// Fails if the gRPC server fails before shutdown.
pub async fn serve(
    grpc: GrpcServer,
    http: Router,
    listeners: Listeners,
    tls: Option<ServerTls>,
    shutdown: Shutdown,
) -> Result<(), ServeError> {
    let drain = grpc.drain().finish;
    let closing = grpc.closing_after(shutdown);
    // The listeners share their certificates, so one watch serves both.
    if let Some(tls) = &tls {
        tls.watch(closing.clone());
    }
    let grpc_connections = Incoming::new(listeners.grpc, tls.clone(), closing.clone());
    let http = async {
        if let Some(listener) = listeners.http {
            let connections = Incoming::new(listener, tls, closing.clone());
            serve_http(http, connections, drain, closing.clone()).await;
        }
    };
    let (served, ()) = tokio::join!(grpc.serve_until(grpc_connections, closing.clone()), http);
    served
}
