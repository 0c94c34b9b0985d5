//! Discovery by `EndpointSlices`, against an API server in this process, over TLS and with a token.
#![cfg(feature = "kubernetes")]
#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod fake_encoder;

use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use axum::body::Body;
use axum::extract::{Path, RawQuery, State};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse as _, Response};
use axum::routing::get;
use axum::{Json, Router};
use encoder_client::{ClientConfig, EncoderClient, EncoderError, Kubernetes, OnlinePolicy, Policy, Source};
use fake_encoder::{Behaviour, FakeEncoder, expected};
use rcgen::{CertificateParams, KeyPair};
use serde_json::{Value, json};
use service_kit::{
    Deadline, Drain, GrpcServer, Listeners, Metrics, ServerTls, ServerTlsSettings, Shutdown, Target, serve,
};
use tokio::sync::mpsc;

const NAMESPACE: &str = "movies";
const SELECTOR: &str = "kubernetes.io/service-name=encoder";
const TOKEN: &str = "the token of the service account";

/// A line of a watch, or its end.
type Line = Result<String, std::io::Error>;

/// An API server with the `EndpointSlices` of one Service.
#[derive(Default)]
struct ApiServer {
    is_forbidden: bool,
    version: u64,
    slices: BTreeMap<String, Value>,
    /// The changes since `forgotten`.
    history: Vec<(u64, Value)>,
    /// Watches from an earlier version get 410.
    forgotten: u64,
    watches: Vec<mpsc::UnboundedSender<Line>>,
    /// The requests so far, as `list` or `watch VERSION`.
    requests: Vec<String>,
}

#[derive(Clone, Default)]
struct Api(Arc<Mutex<ApiServer>>);

impl Api {
    /// Starts the server, within a runtime; returns the access to it that a pod has.
    fn start() -> (Self, kube::Config) {
        let api = Self::default();
        api.with(|server| server.version = 100);
        let path = "/apis/discovery.k8s.io/v1/namespaces/{namespace}/endpointslices";
        let routes = Router::new().route(path, get(requested)).with_state(api.clone());
        let folder = tempfile::tempdir().unwrap().keep();
        let file = |name: &str, content: &str| {
            std::fs::write(folder.join(name), content).unwrap();
            folder.join(name)
        };
        let key = KeyPair::generate().unwrap();
        let certificate =
            CertificateParams::new(vec!["127.0.0.1".to_owned()]).unwrap().self_signed(&key).unwrap();
        let tls = ServerTlsSettings {
            certificate: Some(file("tls.crt", &certificate.pem())),
            key: Some(file("tls.key", &key.serialize_pem())),
            client_ca: None,
        };
        let any = (Ipv4Addr::LOCALHOST, 0).into();
        let listeners = Listeners::bind(any, Some(any)).unwrap();
        let url = format!("https://{}", listeners.http.as_ref().unwrap().local_addr().unwrap());
        let drain = Drain { removal: Duration::ZERO, finish: Duration::ZERO };
        let grpc = GrpcServer::new(proto::FILE_DESCRIPTOR_SET, drain, Metrics::default()).unwrap();
        tokio::spawn(serve(grpc, routes, 100, listeners, ServerTls::new(&tls).unwrap(), Shutdown::new()));
        let mut config = kube::Config::new(url.parse().unwrap());
        NAMESPACE.clone_into(&mut config.default_namespace);
        config.root_cert = Some(vec![certificate.der().to_vec()]);
        config.auth_info.token_file = Some(file("token", TOKEN).display().to_string());
        (api, config)
    }

    fn with<T>(&self, change: impl FnOnce(&mut ApiServer) -> T) -> T {
        change(&mut self.0.lock().unwrap())
    }

    /// Writes the slice of one encoder, and tells the watches.
    fn apply(&self, encoder: &FakeEncoder, conditions: &Value, zone: Option<&str>) {
        let name = name_of(encoder);
        let hints = zone.map(|zone| json!({"forZones": [{"name": zone}]}));
        self.with(|server| {
            server.version += 1;
            let kind = if server.slices.contains_key(&name) { "MODIFIED" } else { "ADDED" };
            let slice = json!({
                "apiVersion": "discovery.k8s.io/v1",
                "kind": "EndpointSlice",
                "metadata": {"name": name, "namespace": NAMESPACE, "resourceVersion": server.version.to_string()},
                "addressType": "IPv4",
                "endpoints": [{
                    "addresses": [encoder.address.ip()], "conditions": conditions, "hints": hints,
                }],
                "ports": [{"name": "grpc", "port": encoder.address.port()}],
            });
            server.slices.insert(name, slice.clone());
            server.changed(kind, &slice);
        });
    }

    fn add(&self, encoder: &FakeEncoder) {
        self.apply(encoder, &json!({"ready": true, "serving": true, "terminating": false}), None);
    }

    /// Deletes the slice of an encoder.
    fn delete(&self, encoder: &FakeEncoder) {
        self.with(|server| {
            server.version += 1;
            let mut slice = server.slices.remove(&name_of(encoder)).unwrap();
            slice["metadata"]["resourceVersion"] = json!(server.version.to_string());
            server.changed("DELETED", &slice);
        });
    }

    /// Breaks the connections of all watches.
    fn breaks(&self) {
        self.with(|server| {
            for watch in server.watches.drain(..) {
                let _ = watch.send(Err(std::io::Error::other("broken")));
            }
        });
    }

    fn requests(&self) -> Vec<String> {
        self.with(|server| server.requests.clone())
    }

    fn lists(&self) -> usize {
        self.requests().iter().filter(|request| *request == "list").count()
    }
}

impl ApiServer {
    fn changed(&mut self, kind: &str, slice: &Value) {
        let event = json!({"type": kind, "object": slice});
        self.history.push((self.version, event.clone()));
        self.watches.retain(|watch| watch.send(Ok(format!("{event}\n"))).is_ok());
    }

    fn forgets(&mut self) {
        self.forgotten = self.version;
        self.history.clear();
    }
}

fn name_of(encoder: &FakeEncoder) -> String {
    format!("encoder-{}", encoder.address.port())
}

fn failure(code: StatusCode, reason: &str, message: &str) -> Value {
    json!({
        "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure",
        "message": message, "reason": reason, "code": code.as_u16(),
    })
}

async fn requested(
    State(api): State<Api>,
    Path(namespace): Path<String>,
    RawQuery(query): RawQuery,
    headers: HeaderMap,
) -> Response {
    let query = query.unwrap_or_default();
    let query: BTreeMap<_, _> = url::form_urlencoded::parse(query.as_bytes()).into_owned().collect();
    assert_eq!((namespace.as_str(), query["labelSelector"].as_str()), (NAMESPACE, SELECTOR));
    let mut server = api.0.lock().unwrap();
    let is_watch = query.get("watch").is_some_and(|watch| watch == "true");
    let verb = if is_watch { "watch" } else { "list" };
    server.requests.push(if is_watch {
        format!("watch {}", query["resourceVersion"])
    } else {
        verb.to_owned()
    });
    let refuse = |code: StatusCode, reason: &str, message: &str| {
        (code, Json(failure(code, reason, message))).into_response()
    };
    if headers.get("authorization").is_none_or(|value| value != format!("Bearer {TOKEN}").as_str()) {
        return refuse(StatusCode::UNAUTHORIZED, "Unauthorized", "Unauthorized");
    }
    if server.is_forbidden {
        let message = format!("endpointslices.discovery.k8s.io is forbidden: cannot {verb} resource");
        return refuse(StatusCode::FORBIDDEN, "Forbidden", &message);
    }
    if !is_watch {
        let items: Vec<_> = server.slices.values().collect();
        let metadata = json!({"resourceVersion": server.version.to_string()});
        let (kind, group) = ("EndpointSliceList", "discovery.k8s.io/v1");
        return Json(json!({"kind": kind, "apiVersion": group, "metadata": metadata, "items": items}))
            .into_response();
    }
    let from: u64 = query["resourceVersion"].parse().unwrap();
    let (sender, mut lines) = mpsc::unbounded_channel::<Line>();
    if from < server.forgotten {
        let gone = failure(StatusCode::GONE, "Expired", "too old resource version");
        sender.send(Ok(format!("{}\n", json!({"type": "ERROR", "object": gone})))).unwrap();
    } else {
        for (_, event) in server.history.iter().filter(|(version, _)| *version > from) {
            sender.send(Ok(format!("{event}\n"))).unwrap();
        }
        server.watches.push(sender);
    }
    Body::from_stream(futures_util::stream::poll_fn(move |context| lines.poll_recv(context))).into_response()
}

async fn client_of(cluster: Kubernetes, metrics: &Metrics) -> EncoderClient {
    let config = ClientConfig {
        // The slices name the real ports.
        targets: vec![Target::parse("http://encoder:50051").unwrap()],
        source: Source::Kubernetes(Box::new(cluster)),
        policy: Policy::Online(OnlinePolicy { timeout: Duration::from_secs(2), hedge_after: None }),
        tls: None,
        api_key: None,
    };
    EncoderClient::discover(config, metrics, Shutdown::new()).await
}

async fn encode(client: &EncoderClient) -> Result<(), EncoderError> {
    client.encode(vec!["rain".to_owned()], 2, &expected(), None, Deadline::NONE).await.map(drop)
}

/// Returns which of the encoders get calls now.
async fn called<const N: usize>(client: &EncoderClient, encoders: [&FakeEncoder; N]) -> [bool; N] {
    let before = encoders.map(FakeEncoder::calls);
    for _ in 0..6 {
        encode(client).await.unwrap();
    }
    std::array::from_fn(|index| encoders[index].calls() > before[index])
}

/// Waits for at most a second until the encoders that get calls are the `expected` ones.
async fn within_a_second<const N: usize>(
    client: &EncoderClient,
    encoders: [&FakeEncoder; N],
    expected: [bool; N],
) {
    let begin = Instant::now();
    while called(client, encoders).await != expected {
        assert!(begin.elapsed() < Duration::from_secs(1), "expected calls to {expected:?}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

fn unwatched(metrics: &Metrics) -> bool {
    !metrics.render().contains("encoder_unresolved_names 0\n")
}

#[tokio::test]
async fn endpoints_that_come_and_go_are_seen_within_a_second() {
    let (one, other) = (FakeEncoder::start(Behaviour::Healthy), FakeEncoder::start(Behaviour::Healthy));
    let (api, config) = Api::start();
    api.add(&one);
    let client = client_of(Kubernetes::new(config, None), &Metrics::default()).await;
    // The first list is in use before the first call.
    encode(&client).await.unwrap();
    api.add(&other);
    within_a_second(&client, [&one, &other], [true, true]).await;
    // As of a pod that is deleted: its `ready` stays true in a Service that publishes all pods.
    api.apply(&one, &json!({"ready": true, "serving": true, "terminating": true}), None);
    within_a_second(&client, [&one, &other], [false, true]).await;
    api.delete(&one);
    api.add(&one);
    within_a_second(&client, [&one, &other], [true, true]).await;
    api.delete(&other);
    within_a_second(&client, [&one, &other], [true, false]).await;
    assert_eq!(api.lists(), 1);
}

#[tokio::test]
async fn a_terminating_endpoint_is_the_last_resort() {
    let encoder = FakeEncoder::start(Behaviour::Healthy);
    let (api, config) = Api::start();
    api.apply(&encoder, &json!({"ready": true, "serving": true, "terminating": true}), None);
    let client = client_of(Kubernetes::new(config, None), &Metrics::default()).await;
    encode(&client).await.unwrap();
}

#[tokio::test]
async fn a_service_without_endpoints_is_named() {
    let encoder = FakeEncoder::start(Behaviour::Healthy);
    let (api, config) = Api::start();
    let metrics = Metrics::default();
    let client = client_of(Kubernetes::new(config, None), &metrics).await;
    let error = encode(&client).await.unwrap_err().to_string();
    assert!(error.contains("the Service encoder in namespace movies has no endpoints"), "{error}");
    assert!(unwatched(&metrics));
    api.add(&encoder);
    tokio::time::sleep(Duration::from_millis(500)).await;
    encode(&client).await.unwrap();
    assert!(!unwatched(&metrics));
}

#[tokio::test]
async fn a_watch_that_breaks_resumes_where_it_was() {
    let (one, other) = (FakeEncoder::start(Behaviour::Healthy), FakeEncoder::start(Behaviour::Healthy));
    let (api, config) = Api::start();
    api.add(&one);
    let metrics = Metrics::default();
    let client = client_of(Kubernetes::new(config, None), &metrics).await;
    within_a_second(&client, [&one, &other], [true, false]).await;
    api.breaks();
    api.add(&other);
    within_a_second(&client, [&one, &other], [true, true]).await;
    let requests = api.requests();
    assert_eq!(requests[..2], ["list", "watch 101"]);
    assert!(requests[2..].iter().all(|request| request.starts_with("watch 10")), "{requests:?}");
    assert!(!unwatched(&metrics));
}

#[tokio::test]
async fn a_watch_that_the_server_has_forgotten_begins_with_a_new_list() {
    let (one, other) = (FakeEncoder::start(Behaviour::Healthy), FakeEncoder::start(Behaviour::Healthy));
    let (api, config) = Api::start();
    api.add(&one);
    let client = client_of(Kubernetes::new(config, None), &Metrics::default()).await;
    within_a_second(&client, [&one, &other], [true, false]).await;
    // Changes that no watch reports: only a list shows them.
    let watches = api.with(|server| std::mem::take(&mut server.watches));
    api.delete(&one);
    api.add(&other);
    api.with(ApiServer::forgets);
    for watch in watches {
        let _ = watch.send(Err(std::io::Error::other("broken")));
    }
    within_a_second(&client, [&one, &other], [false, true]).await;
    assert_eq!(api.lists(), 2, "{:?}", api.requests());
}

#[tokio::test]
async fn a_missing_permission_is_named_with_the_role_that_grants_it() {
    let encoder = FakeEncoder::start(Behaviour::Healthy);
    let (api, config) = Api::start();
    api.add(&encoder);
    api.with(|server| server.is_forbidden = true);
    let metrics = Metrics::default();
    let client = client_of(Kubernetes::new(config, None), &metrics).await;
    let error = encode(&client).await.unwrap_err().to_string();
    let verb_and_resource = "may not list endpointslices.discovery.k8s.io in namespace movies";
    let role = "apply the Role in deploy/kubernetes/components/endpointslice-discovery";
    assert!(error.contains(verb_and_resource) && error.contains(role), "{error}");
    assert!(unwatched(&metrics));
    // The server is not flooded meanwhile.
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert!(api.lists() < 8, "{} lists in a second", api.lists());
    api.with(|server| server.is_forbidden = false);
    tokio::time::sleep(Duration::from_secs(2)).await;
    encode(&client).await.unwrap();
    assert!(!unwatched(&metrics));
}

#[tokio::test]
async fn a_rejected_token_and_an_unknown_authority_are_named() {
    let (_, config) = Api::start();
    let mut other_token = config.clone();
    other_token.auth_info.token = Some("another token".to_owned().into());
    other_token.auth_info.token_file = None;
    let mut other_authority = config;
    other_authority.root_cert = Some(Vec::new());
    for (config, words) in [
        (other_token, "rejects the token of the service account"),
        (other_authority, "invalid peer certificate"),
    ] {
        let client = client_of(Kubernetes::new(config, None), &Metrics::default()).await;
        let error = encode(&client).await.unwrap_err().to_string();
        assert!(error.contains(words), "{error}");
    }
}

#[tokio::test]
async fn a_failing_api_server_takes_no_encoder_away_and_is_watched_again() {
    let (one, other) = (FakeEncoder::start(Behaviour::Healthy), FakeEncoder::start(Behaviour::Healthy));
    let (api, config) = Api::start();
    api.add(&one);
    let metrics = Metrics::default();
    let client = client_of(Kubernetes::new(config, None), &metrics).await;
    within_a_second(&client, [&one, &other], [true, false]).await;
    api.with(|server| server.is_forbidden = true);
    api.breaks();
    tokio::time::sleep(Duration::from_millis(500)).await;
    assert!(unwatched(&metrics));
    assert_eq!(called(&client, [&one, &other]).await, [true, false]);
    api.with(|server| server.is_forbidden = false);
    tokio::time::sleep(Duration::from_secs(2)).await;
    assert!(!unwatched(&metrics));
    api.add(&other);
    within_a_second(&client, [&one, &other], [true, true]).await;
}

#[tokio::test]
async fn encoders_of_the_own_zone_come_first_and_the_others_while_they_fail() {
    let (near, far) = (FakeEncoder::start(Behaviour::Healthy), FakeEncoder::start(Behaviour::Healthy));
    let (api, config) = Api::start();
    api.apply(&near, &json!({"ready": true}), Some("a"));
    api.apply(&far, &json!({"ready": true}), Some("b"));
    let client = client_of(Kubernetes::new(config, Some("a".to_owned())), &Metrics::default()).await;
    assert_eq!(called(&client, [&near, &far]).await, [true, false]);
    // Busy, and then back.
    near.set(Behaviour::Full(Duration::from_millis(200)));
    within_a_second(&client, [&near, &far], [false, true]).await;
    near.set(Behaviour::Healthy);
    within_a_second(&client, [&near, &far], [true, false]).await;
    near.set(Behaviour::Broken);
    within_a_second(&client, [&near, &far], [false, true]).await;
}
