//! Serving both listeners of a service until shutdown.

use axum::Router;
use tokio::net::TcpListener;
use tonic::Status;
use tower::ServiceBuilder;

use crate::grpc::served::{answer_early, is_grpc, speaks_http};
use crate::memory::ConnectionLimit;
use crate::net::incoming::Incoming;
use crate::net::server::{Listens, serve_connections};
use crate::{GrpcServer, Listeners, ServerTls, Shutdown, canonical_path};

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
    let port = |listener: &TcpListener| listener.local_addr().ok().map(|address| address.port());
    let (grpc_port, http_port) = (port(&listeners.grpc), listeners.http.as_ref().and_then(port));
    let grpc = grpc.with_http_port(http_port);
    // Tells a gRPC client that it has the wrong port, in a form that it understands.
    let http = ServiceBuilder::new()
        .layer(answer_early(move |request: &http::Request<_>| {
            is_grpc(request.headers()).then(|| Status::from(speaks_http(grpc_port)).into_http())
        }))
        // Before the routes are matched.
        .map_request(canonical_path)
        .service(http);
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
            serve_connections(connections, Listens::Http, http, drain, closing.clone()).await;
        }
    };
    tokio::join!(grpc.serve_until(grpc_connections, closing.clone()), http);
}
