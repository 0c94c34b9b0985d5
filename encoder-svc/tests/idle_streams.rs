//! Ten thousand idle streams, half of which vanish without a close, against the real binary.
#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod common;

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use common::{fixture, runtime_library};
use proto::encoder::v1::encoder_service_client::EncoderServiceClient;
use proto::encoder::v1::{EncodeRequest, EncodeStreamRequest};
use tokio::sync::mpsc;
use tonic::transport::{Channel, Endpoint};

const CONNECTIONS: usize = 100;
const STREAMS: usize = 100;

struct Server {
    child: Child,
    grpc: SocketAddr,
    http: SocketAddr,
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Server {
    fn start() -> Self {
        let free = || TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let (grpc, http) = (free(), free());
        let child = Command::new(env!("CARGO_BIN_EXE_encoder-svc"))
            .args(["serve", "--listen", &grpc.to_string(), "--http-listen", &http.to_string(), "--bundle"])
            .arg(fixture("tiny-512"))
            .env("ORT_DYLIB_PATH", runtime_library())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        Self { child, grpc, http }
    }

    fn resident_kib(&self) -> usize {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id())).unwrap();
        let line = status.lines().find(|line| line.starts_with("VmRSS")).unwrap();
        line.split_whitespace().nth(1).unwrap().parse().unwrap()
    }

    fn descriptors(&self) -> usize {
        std::fs::read_dir(format!("/proc/{}/fd", self.child.id())).unwrap().count()
    }

    /// The number of admitted texts of both classes.
    fn admitted(&self) -> u64 {
        let mut socket = std::net::TcpStream::connect(self.http).unwrap();
        socket.write_all(b"GET /metrics HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n").unwrap();
        let mut text = String::new();
        socket.read_to_string(&mut text).unwrap();
        let lines = text.lines().filter(|line| line.starts_with("movieclassifier_encoder_admitted_texts{"));
        let values: Vec<u64> =
            lines.map(|line| line.split(' ').next_back().unwrap().parse().unwrap()).collect();
        assert_eq!(values.len(), 2, "{text}");
        values.iter().sum()
    }

    async fn connect(&self) -> Channel {
        let endpoint = Endpoint::from_shared(format!("http://{}", self.grpc)).unwrap();
        let begin = Instant::now();
        loop {
            match endpoint.connect().await {
                Ok(channel) => return channel,
                Err(error) if begin.elapsed() > Duration::from_secs(30) => panic!("{error}"),
                Err(_) => tokio::time::sleep(Duration::from_millis(20)).await,
            }
        }
    }
}

/// Opens the streams of one connection, and checks that the first one replies. The senders and
/// receivers keep them open.
async fn open_streams(
    channel: Channel,
) -> Vec<(mpsc::Sender<EncodeStreamRequest>, tonic::Streaming<proto::encoder::v1::EncodeStreamResponse>)> {
    let mut streams = Vec::new();
    for _ in 0..STREAMS {
        let (sender, requests) = mpsc::channel(1);
        let mut client = EncoderServiceClient::new(channel.clone());
        let requests = tokio_stream::wrappers::ReceiverStream::new(requests);
        let mut responses = client.encode_stream(requests).await.unwrap().into_inner();
        if streams.is_empty() {
            let item = EncodeStreamRequest { id: "1".to_owned(), text: "rain".to_owned(), priority: 0 };
            sender.send(item).await.unwrap();
            assert!(responses.message().await.unwrap().is_some());
        }
        streams.push((sender, responses));
    }
    streams
}

#[test]
fn frees_the_resources_of_ten_thousand_idle_streams() {
    let server = Server::start();
    // The half that vanishes has its own runtime, which is torn down without closing HTTP/2.
    let [staying, leaving] = [(); 2].map(|()| {
        tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap()
    });
    staying.block_on(async {
        let mut client = EncoderServiceClient::new(server.connect().await);
        client.encode(EncodeRequest { texts: vec!["a storm".to_owned()], priority: 0 }).await.unwrap();
    });
    let (memory, descriptors) = (server.resident_kib(), server.descriptors());
    let open = |runtime: &tokio::runtime::Runtime| {
        runtime.block_on(async {
            let mut all = Vec::new();
            for _ in 0..CONNECTIONS / 2 {
                all.push(open_streams(server.connect().await).await);
            }
            all
        })
    };
    let stayed = open(&staying);
    let left = open(&leaving);
    // The first connection was counted before.
    assert!(server.descriptors() + 1 >= descriptors + CONNECTIONS);
    assert_eq!(server.admitted(), 0);
    let fresh = tokio::runtime::Runtime::new().unwrap();
    let pause = || fresh.block_on(async { tokio::time::sleep(Duration::from_millis(50)).await });
    std::mem::forget(left);
    leaving.shutdown_background();
    let begin = Instant::now();
    while server.descriptors() > descriptors + CONNECTIONS / 2 + 2 {
        assert!(begin.elapsed() < Duration::from_secs(20), "{} descriptors", server.descriptors());
        pause();
    }
    drop(stayed);
    drop(staying);
    while server.descriptors() > descriptors {
        assert!(begin.elapsed() < Duration::from_secs(40), "{} descriptors", server.descriptors());
        pause();
    }
    assert_eq!(server.admitted(), 0);
    // The allocator returns the memory of the streams when it is next used.
    let mut grown = usize::MAX;
    while grown > 40 << 10 && begin.elapsed() < Duration::from_secs(60) {
        fresh.block_on(async {
            let mut client = EncoderServiceClient::new(server.connect().await);
            client.encode(EncodeRequest { texts: vec!["a storm".to_owned()], priority: 0 }).await.unwrap();
        });
        grown = server.resident_kib().saturating_sub(memory);
    }
    println!("{memory} KiB before, {grown} more after");
    assert!(grown <= 40 << 10, "{grown} KiB grown");
}
