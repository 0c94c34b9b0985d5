//! Replicas that stop while the name server still lists them, over in-memory connections and on a
//! paused clock.
#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod fake_encoder;

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use encoder_client::{ClientConfig, EncoderClient, OnlinePolicy, Policy, Source};
use fake_encoder::{Behaviour, FakeEncoder, expected};
use futures_util::future::BoxFuture;
use proto::encoder::v1::encoder_service_server::EncoderServiceServer;
use service_kit::{ApiError, Deadline, Drain, GrpcServer, Io, Metrics, Shutdown, Target, Transport};
use tokio::io::DuplexStream;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio::time::Instant;

const REMOVAL: Duration = Duration::from_secs(5);
const HEDGE_AFTER: Duration = Duration::from_secs(1);
const TIMEOUT: Duration = Duration::from_secs(12);
/// A round trip over memory, and the resolution of timers.
const AT_ONCE: Duration = Duration::from_millis(20);

/// A host with an address that the name server lists whether a process runs there or not.
#[derive(Debug, Default)]
struct Host {
    process: Mutex<Option<mpsc::UnboundedSender<io::Result<DuplexStream>>>>,
    /// Without a process, refuses connections. Otherwise they are never answered, as those to the
    /// address of a deleted pod.
    refuses: AtomicBool,
}

/// A process on a host.
struct Process {
    encoder: FakeEncoder,
    shutdown: Shutdown,
    ended: JoinHandle<()>,
}

impl Host {
    async fn start(self: &Arc<Self>) -> Process {
        let encoder = FakeEncoder::new(Behaviour::Healthy);
        let drain = Drain { removal: REMOVAL, finish: Duration::from_secs(20) };
        let server = GrpcServer::new(proto::FILE_DESCRIPTOR_SET, drain, Metrics::default()).unwrap();
        let server = server.with_service(EncoderServiceServer::new(encoder.clone()));
        server.health().await.set_serving(true).await;
        let (connections, mut incoming) = mpsc::unbounded_channel();
        *self.process.lock().unwrap() = Some(connections);
        let incoming = futures_util::stream::poll_fn(move |context| incoming.poll_recv(context));
        let (shutdown, host) = (Shutdown::new(), self.clone());
        let serve = server.serve_incoming(incoming, shutdown.clone());
        let ended = tokio::spawn(async move {
            serve.await;
            *host.process.lock().unwrap() = None;
        });
        Process { encoder, shutdown, ended }
    }
}

/// The network of two hosts behind one name.
#[derive(Debug, Default)]
struct Network([Arc<Host>; 2]);

impl Transport for Network {
    fn resolve<'a>(&'a self, _: &'a str, port: u16) -> BoxFuture<'a, io::Result<Vec<SocketAddr>>> {
        let addresses = (1..=2).map(|host| (Ipv4Addr::new(192, 0, 2, host), port).into()).collect();
        Box::pin(std::future::ready(Ok(addresses)))
    }

    fn connect(&self, address: SocketAddr) -> BoxFuture<'static, io::Result<Box<dyn Io>>> {
        let SocketAddr::V4(address) = address else { unreachable!() };
        let host = self.0[usize::from(address.ip().octets()[3]) - 1].clone();
        Box::pin(async move {
            let (client, server) = tokio::io::duplex(1 << 16);
            let sent = host.process.lock().unwrap().as_ref().map(|connections| connections.send(Ok(server)));
            if !matches!(sent, Some(Ok(()))) {
                if host.refuses.load(Ordering::Relaxed) {
                    return Err(io::ErrorKind::ConnectionRefused.into());
                }
                std::future::pending::<()>().await;
            }
            Ok(Box::new(client) as Box<dyn Io>)
        })
    }
}

async fn client_of(network: &Arc<Network>) -> EncoderClient {
    let config = ClientConfig {
        targets: vec![Target::parse("http://encoder:1").unwrap().over(network.clone())],
        source: Source::Dns { interval: Duration::from_secs(5) },
        policy: Policy::Online(OnlinePolicy { timeout: TIMEOUT, hedge_after: Some(HEDGE_AFTER) }),
        tls: None,
        api_key: None,
    };
    let client = EncoderClient::discover(config, &Metrics::default(), Shutdown::new()).await;
    client.probe(&expected(), 2).await.unwrap();
    tokio::spawn(client.clone().keep_probing(Shutdown::new()));
    client
}

async fn encode(client: &EncoderClient, texts: usize) -> Result<(), ApiError> {
    let texts = vec!["rain".to_owned(); texts];
    Ok(client.encode(texts, 2, &expected(), None, Deadline::NONE).await.map(drop)?)
}

/// Makes calls for a while, none of which may wait.
async fn prompt_calls(client: &EncoderClient, during: Duration) {
    let end = Instant::now() + during;
    while Instant::now() < end {
        let begin = Instant::now();
        encode(client, 1).await.unwrap();
        assert!(begin.elapsed() < AT_ONCE, "a call took {:?}", begin.elapsed());
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_replica_that_is_about_to_stop_gets_no_new_calls_though_its_name_lists_it() {
    let network = Arc::new(Network::default());
    let (leaving, other) = (network.0[0].start().await, network.0[1].start().await);
    let client = client_of(&network).await;
    prompt_calls(&client, Duration::from_secs(1)).await;
    assert!(leaving.encoder.calls() >= 9 && other.encoder.calls() >= 9);

    // Each replica gets one call, too large to be hedged.
    for process in [&leaving, &other] {
        process.encoder.set(Behaviour::Slow(REMOVAL + Duration::from_secs(3)));
    }
    let in_flight: Vec<_> = (0..2)
        .map(|_| {
            let client = client.clone();
            tokio::spawn(async move { encode(&client, 64).await })
        })
        .collect();
    tokio::time::sleep(AT_ONCE).await;
    for process in [&leaving, &other] {
        process.encoder.set(Behaviour::Healthy);
    }
    let begin = Instant::now();
    leaving.shutdown.cancel();
    let ended = tokio::spawn(async move {
        leaving.ended.await.unwrap();
        begin.elapsed()
    });
    tokio::time::sleep(AT_ONCE).await;
    let before = leaving.encoder.calls();
    prompt_calls(&client, Duration::from_secs(35)).await;
    assert_eq!(leaving.encoder.calls(), before, "calls after NOT_SERVING");
    for call in in_flight {
        call.await.unwrap().unwrap();
    }
    // It ends with its last call. The client that watches its health does not keep it.
    let ended = ended.await.unwrap();
    assert!(ended < REMOVAL + Duration::from_secs(4), "{ended:?}");

    // It gets calls again once it serves, after the longest attempt to connect.
    let back = network.0[0].start().await;
    tokio::time::sleep(Duration::from_secs(4)).await;
    prompt_calls(&client, Duration::from_secs(1)).await;
    assert!(back.encoder.calls() >= 9, "{} calls", back.encoder.calls());
}

#[tokio::test(start_paused = true)]
async fn replicas_that_are_about_to_stop_are_a_last_resort() {
    let network = Arc::new(Network::default());
    let mut processes = Vec::new();
    for host in &network.0 {
        host.refuses.store(true, Ordering::Relaxed);
        processes.push(host.start().await);
    }
    let client = client_of(&network).await;
    for process in &processes {
        process.shutdown.cancel();
    }
    prompt_calls(&client, REMOVAL.mul_f64(0.98)).await;
    for process in processes {
        process.ended.await.unwrap();
    }
    let error = encode(&client, 1).await.unwrap_err();
    assert_eq!(error.reason(), "ENCODER_UNREACHABLE", "{error:?}");

    network.0[1].start().await;
    tokio::time::sleep(Duration::from_secs(4)).await;
    prompt_calls(&client, Duration::from_secs(1)).await;
}
