//! gRPC calls with any bytes as their body, and checks of every reply.

use http::header::{CONTENT_TYPE, TE};
use http_body_util::{BodyExt as _, Full};
use prost::Message;
use tonic::body::Body;
use tonic::transport::Channel;
use tonic::{Code, Status};
use tonic_types::StatusExt as _;
use tower::ServiceExt as _;

use super::rules::Violations;

/// The reply to a call: a status, and the messages before it.
pub(crate) struct Reply {
    pub(crate) status: Status,
    body: Vec<u8>,
}

/// Makes a call with `body` as its bytes on the wire.
pub(crate) async fn call(
    channel: Channel,
    path: &str,
    headers: &[(http::HeaderName, http::HeaderValue)],
    body: Vec<u8>,
) -> Reply {
    let mut request = http::Request::post(format!("http://in.memory{path}"))
        .header(CONTENT_TYPE, "application/grpc")
        .header(TE, "trailers")
        .body(Body::new(Full::new(axum::body::Bytes::from(body))))
        .expect("the path is valid");
    for (name, value) in headers {
        request.headers_mut().append(name, value.clone());
    }
    let response = match channel.oneshot(request).await {
        Ok(response) => response,
        // The client enforces the deadline that it sends, too.
        Err(error) => return Reply { status: Status::from_error(Box::new(error)), body: Vec::new() },
    };
    let (parts, body) = response.into_parts();
    if let Some(status) = Status::from_header_map(&parts.headers) {
        return Reply { status, body: Vec::new() };
    }
    let collected = match body.collect().await {
        Ok(collected) => collected,
        Err(status) => return Reply { status, body: Vec::new() },
    };
    let status = collected.trailers().and_then(Status::from_header_map);
    let status = status.expect("a reply ends with a status");
    Reply { status, body: collected.to_bytes().to_vec() }
}

/// Returns a message in its length-prefixed frame.
pub(crate) fn frame(message: &[u8]) -> Vec<u8> {
    let length = u32::try_from(message.len()).expect("inputs are short");
    [&[0][..], &length.to_be_bytes(), message].concat()
}

/// Returns the messages in a body; `None` unless it consists of whole, uncompressed frames.
fn frames(mut body: &[u8]) -> Option<Vec<&[u8]>> {
    let mut messages = Vec::new();
    while !body.is_empty() {
        let (head, rest) = body.split_at_checked(5)?;
        let length = u32::from_be_bytes([head[1], head[2], head[3], head[4]]) as usize;
        let (message, rest) = rest.split_at_checked(length).filter(|_| head[0] == 0)?;
        messages.push(message);
        body = rest;
    }
    Some(messages)
}

/// Returns the messages in the body of a request, or `None` if a service must reject it as
/// malformed.
///
/// A service must also accept a body that ends right after the head of a frame of at most
/// `max_bytes`. tonic ignores such a head without an error: the client is broken, but it gets the
/// replies to its earlier messages.
pub(crate) fn request_messages<M: Message + Default>(body: &[u8], max_bytes: usize) -> Option<Vec<M>> {
    let (before, head) = body.split_at(body.len().saturating_sub(5));
    let is_bare_head = match *head {
        [0, a, b, c, d] => (1..=max_bytes).contains(&(u32::from_be_bytes([a, b, c, d]) as usize)),
        _ => false,
    };
    let frames = frames(body).or_else(|| frames(before).filter(|_| is_bare_head))?;
    frames.into_iter().map(|message| M::decode(message).ok()).collect()
}

/// Like [`request_messages`], for a call that takes one message.
pub(crate) fn request_message<M: Message + Default>(body: &[u8], max_bytes: usize) -> Option<M> {
    let mut messages = request_messages(body, max_bytes)?;
    messages.pop().filter(|_| messages.is_empty())
}

impl Reply {
    /// Returns the messages of a call that succeeded.
    pub(crate) fn messages<M: Message + Default>(&self) -> Vec<M> {
        assert_eq!(self.status.code(), Code::Ok, "{:?}", self.status);
        let messages = frames(&self.body).expect("a reply consists of whole frames");
        messages.into_iter().map(|message| M::decode(message).expect("a reply can be decoded")).collect()
    }

    /// Returns the message of a unary call that succeeded.
    pub(crate) fn message<M: Message + Default>(&self) -> M {
        let mut messages = self.messages();
        assert_eq!(messages.len(), 1, "a unary call has one reply");
        messages.remove(0)
    }

    /// Asserts that the call was rejected for exactly these violations.
    pub(crate) fn assert_rejected_for(&self, violations: &Violations) {
        assert_eq!(self.status.code(), Code::InvalidArgument, "{:?}", self.status);
        let details = self.status.get_error_details();
        let found = details.bad_request().expect("a rejection names the fields");
        let found: Vec<_> = found.field_violations.iter().map(|v| v.field.as_str()).collect();
        let fields: Vec<_> = violations.iter().map(|(field, _)| field.as_str()).collect();
        assert_eq!(found, fields);
        let info = details.error_info().expect("a rejection has a reason");
        assert_eq!(info.reason, violations[0].1);
        for field in fields {
            assert!(self.status.message().contains(field), "{:?}", self.status);
        }
    }

    /// Asserts that the call was rejected because its body is malformed.
    pub(crate) fn assert_malformed(&self) {
        let codes =
            [Code::InvalidArgument, Code::Internal, Code::Unimplemented, Code::OutOfRange, Code::Unknown];
        assert!(codes.contains(&self.status.code()), "{:?}", self.status);
        assert!(!self.status.message().is_empty(), "a rejection says why");
    }
}
