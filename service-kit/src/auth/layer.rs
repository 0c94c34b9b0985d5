//! The check in front of handlers, the same for gRPC and HTTP but for how a refusal is written.

use std::future::{Ready, ready};
use std::task::{Context, Poll};

use futures_util::future::Either;
use tower::{Layer, Service};

use super::ApiKeys;
use crate::ApiError;

/// Lets requests through that carry a key.
#[derive(Clone)]
pub struct AuthLayer<F> {
    keys: Option<ApiKeys>,
    is_open: fn(&str) -> bool,
    refusal: F,
}

impl<F> AuthLayer<F> {
    /// Paths for which `is_open` holds need no key; `refusal` writes the answer to a request without one.
    pub fn new(keys: Option<ApiKeys>, is_open: fn(&str) -> bool, refusal: F) -> Self {
        Self { keys, is_open, refusal }
    }
}

impl<S, F: Clone> Layer<S> for AuthLayer<F> {
    type Service = AuthService<S, F>;

    fn layer(&self, inner: S) -> Self::Service {
        AuthService {
            inner,
            layer: AuthLayer {
                keys: self.keys.clone(),
                is_open: self.is_open,
                refusal: self.refusal.clone(),
            },
        }
    }
}

/// What [`AuthLayer`] makes.
#[derive(Clone)]
pub struct AuthService<S, F> {
    inner: S,
    layer: AuthLayer<F>,
}

impl<S, R, B, F> Service<http::Request<R>> for AuthService<S, F>
where
    S: Service<http::Request<R>, Response = http::Response<B>>,
    F: Fn(ApiError) -> http::Response<B>,
{
    type Response = S::Response;
    type Error = S::Error;
    type Future = Either<S::Future, Ready<Result<Self::Response, Self::Error>>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, request: http::Request<R>) -> Self::Future {
        if let Some(keys) = &self.layer.keys
            && !(self.layer.is_open)(request.uri().path())
            && let Err(error) = keys.check(request.headers())
        {
            return Either::Right(ready(Ok((self.layer.refusal)(error))));
        }
        Either::Left(self.inner.call(request))
    }
}
