//! Calls made of any bytes, and what must hold of every answer.

use http::header::{CONTENT_TYPE, TE};
use http_body_util::{BodyExt as _, Full};
use prost::Message;
use tonic::body::Body;
use tonic::transport::Channel;
use tonic::{Code, Status};
use tonic_types::StatusExt as _;
use tower::ServiceExt as _;

use super::rules::Violations;

/// The answer to a call: its status, and the messages before it.
pub(crate) struct Reply {
    pub(crate) status: Status,
    body: Vec<u8>,
}

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
        .expect("the path is one of ours");
    for (name, value) in headers {
        request.headers_mut().append(name, value.clone());
    }
    let response = match channel.oneshot(request).await {
        Ok(response) => response,
        // The client's own timer for the deadline that it sends.
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
    let status = status.expect("an answer ends with a status");
    Reply { status, body: collected.to_bytes().to_vec() }
}

/// The frame of one message.
pub(crate) fn frame(message: &[u8]) -> Vec<u8> {
    let length = u32::try_from(message.len()).expect("inputs are short");
    [&[0][..], &length.to_be_bytes(), message].concat()
}

/// The messages in a body of frames; `None` where it is no such thing.
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

/// The same for the body of a call, whose messages have at most `max` bytes. One that ends right behind the head of a message is
/// taken by tonic for one that ended before it, without an error: a client that ends so is broken, and has its answers to what
/// came before.
pub(crate) fn stream_frames(body: &[u8], max: usize) -> Option<Vec<&[u8]>> {
    let (before, head) = body.split_at(body.len().saturating_sub(5));
    let is_bare = match *head {
        [0, a, b, c, d] => (1..=max).contains(&(u32::from_be_bytes([a, b, c, d]) as usize)),
        _ => false,
    };
    frames(body).or_else(|| frames(before).filter(|_| is_bare))
}

impl Reply {
    /// The messages of the answer.
    pub(crate) fn messages<M: Message + Default>(&self) -> Vec<M> {
        let messages = frames(&self.body).expect("an answer is made of whole frames");
        messages.into_iter().map(|message| M::decode(message).expect("ours can be decoded")).collect()
    }

    /// The one message of a call that succeeded.
    pub(crate) fn only<M: Message + Default>(&self) -> M {
        assert_eq!(self.status.code(), Code::Ok, "{:?}", self.status);
        let mut messages = self.messages();
        assert_eq!(messages.len(), 1, "expected one answer");
        messages.remove(0)
    }

    /// That the call was refused for exactly these fields and reasons.
    pub(crate) fn is_refused_for(&self, expected: &Violations) {
        assert_eq!(self.status.code(), Code::InvalidArgument, "{:?}", self.status);
        let details = self.status.get_error_details();
        let found = details.bad_request().expect("a refusal names its fields");
        let found: Vec<_> = found.field_violations.iter().map(|v| v.field.as_str()).collect();
        let fields: Vec<_> = expected.iter().map(|(field, _)| field.as_str()).collect();
        assert_eq!(found, fields);
        let info = details.error_info().expect("a refusal has a reason");
        assert_eq!(info.reason, expected[0].1);
        for field in fields {
            assert!(self.status.message().contains(field), "{:?}", self.status);
        }
    }

    /// That bytes which are no request were refused as such.
    pub(crate) fn is_refused_as_malformed(&self) {
        let codes =
            [Code::InvalidArgument, Code::Internal, Code::Unimplemented, Code::OutOfRange, Code::Unknown];
        assert!(codes.contains(&self.status.code()), "{:?}", self.status);
        assert!(!self.status.message().is_empty(), "a refusal says why");
    }
}
