//! The client's deadline, from the `grpc-timeout` header.
//!
//! The layer answers `DEADLINE_EXCEEDED` slightly earlier than the client gives up. It also stores
//! the deadline in the request's extensions, so that handlers can drop abandoned work. The timeout
//! layers of tower and tower-http do not fit: their timeout is fixed.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use http::HeaderName;
use tonic::Status;
use tonic::body::Body;
use tower::{Layer, Service};

use crate::Deadline;

/// The header with the client's deadline.
pub(super) const GRPC_TIMEOUT: HeaderName = HeaderName::from_static("grpc-timeout");
/// How much earlier than the client's deadline this layer answers. Timers have a resolution of a millisecond.
const HEADROOM: Duration = Duration::from_millis(2);

/// Parses `grpc-timeout`: at most eight digits and a unit
/// (<https://github.com/grpc/grpc/blob/master/doc/PROTOCOL-HTTP2.md>). Ignores a malformed value,
/// as tonic does.
pub(super) fn parse_timeout(header: &str) -> Option<Duration> {
    let unit = header.chars().last()?;
    let digits = &header[..header.len() - unit.len_utf8()];
    if digits.len() > 8 || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let value: u64 = digits.parse().ok()?;
    Some(match unit {
        'H' => Duration::from_secs(value * 3600),
        'M' => Duration::from_secs(value * 60),
        'S' => Duration::from_secs(value),
        'm' => Duration::from_millis(value),
        'u' => Duration::from_micros(value),
        'n' => Duration::from_nanos(value),
        _ => return None,
    })
}

/// A layer that enforces the client's deadline; see the [module](self).
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct DeadlineLayer;

impl<S> Layer<S> for DeadlineLayer {
    type Service = DeadlineService<S>;

    fn layer(&self, inner: S) -> Self::Service {
        DeadlineService { inner }
    }
}

/// The service of [`DeadlineLayer`].
#[derive(Debug, Clone)]
pub(crate) struct DeadlineService<S> {
    inner: S,
}

impl<S, B> Service<http::Request<B>> for DeadlineService<S>
where
    S: Service<http::Request<B>, Response = http::Response<Body>>,
    S::Future: Send + 'static,
    S::Error: Send + 'static,
{
    type Response = S::Response;
    type Error = S::Error;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Self::Error>> + Send>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, mut request: http::Request<B>) -> Self::Future {
        let timeout = request.headers().get(GRPC_TIMEOUT).and_then(|value| value.to_str().ok());
        let deadline = timeout
            .and_then(parse_timeout)
            .map_or(Deadline::NONE, |timeout| Deadline::after(timeout.saturating_sub(HEADROOM)));
        request.extensions_mut().insert(deadline);
        let response = self.inner.call(request);
        Box::pin(async move {
            match deadline.bound(response).await {
                Ok(response) => response,
                Err(error) => Ok(Status::from(error).into_http()),
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use tokio::time::Instant;

    use super::*;

    #[test]
    fn reads_every_unit_of_the_specification() {
        assert_eq!(parse_timeout("2H"), Some(Duration::from_secs(7200)));
        assert_eq!(parse_timeout("3M"), Some(Duration::from_secs(180)));
        assert_eq!(parse_timeout("4S"), Some(Duration::from_secs(4)));
        assert_eq!(parse_timeout("5m"), Some(Duration::from_millis(5)));
        assert_eq!(parse_timeout("6u"), Some(Duration::from_micros(6)));
        assert_eq!(parse_timeout("7n"), Some(Duration::from_nanos(7)));
        for wrong in ["", "S", "1", "-1S", "123456789S", "1é", "1x"] {
            assert_eq!(parse_timeout(wrong), None, "{wrong:?}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn answers_deadline_exceeded_before_the_deadline() {
        let slow = tower::service_fn(|_: http::Request<()>| async {
            tokio::time::sleep(Duration::from_secs(60)).await;
            Ok::<_, std::convert::Infallible>(http::Response::new(Body::empty()))
        });
        let mut service = DeadlineLayer.layer(slow);
        let request = http::Request::builder().header("grpc-timeout", "50m").body(()).unwrap();
        let begin = Instant::now();
        let response = service.call(request).await.unwrap();
        assert_eq!(response.headers()["grpc-status"], "4");
        assert!(begin.elapsed() < Duration::from_millis(50));
    }
}
