//! TLS, mutual TLS, certificate reload, API keys between the services, and secrets in logs.
#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod common;

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use common::{
    any_port, classifier_settings, encoder_settings, model_file, runtime_library, start_classifier_with,
    start_encoder_with,
};
use proto::classifier::v1::classifier_service_client::ClassifierServiceClient;
use proto::classifier::v1::{ClassifyRequest, ClassifyResponse};
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use service_kit::{ApiKeySettings, ClientTls, ClientTlsSettings, ServerTlsSettings, Target};
use sha2::{Digest as _, Sha256};
use tonic::{Code, Request, Status};

/// A certificate authority and the folder of what it signs.
struct Authority {
    folder: tempfile::TempDir,
    issuer: Issuer<'static, KeyPair>,
}

impl Authority {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let certificate = params.self_signed(&key).unwrap();
        std::fs::write(folder.path().join("ca.pem"), certificate.pem()).unwrap();
        Self { folder, issuer: Issuer::new(params, key) }
    }

    fn ca(&self) -> PathBuf {
        self.folder.path().join("ca.pem")
    }

    /// Signs a certificate for `name`; returns its path and that of its key.
    fn sign(&self, name: &str) -> (PathBuf, PathBuf) {
        let key = KeyPair::generate().unwrap();
        let params = CertificateParams::new(vec![name.to_owned()]).unwrap();
        let certificate = params.signed_by(&key, &self.issuer).unwrap();
        let path = |ending: &str| self.folder.path().join(format!("{name}.{ending}"));
        std::fs::write(path("pem"), certificate.pem()).unwrap();
        std::fs::write(path("key"), key.serialize_pem()).unwrap();
        (path("pem"), path("key"))
    }

    fn server(&self, client_ca: Option<PathBuf>) -> ServerTlsSettings {
        let (certificate, key) = self.sign("localhost");
        ServerTlsSettings { certificate: Some(certificate), key: Some(key), client_ca }
    }

    /// TLS of a client that trusts this authority and shows a certificate of `own`, if given.
    fn client(&self, own: Option<&Authority>) -> ClientTlsSettings {
        let identity = own.map(|own| own.sign("client"));
        ClientTlsSettings {
            ca: Some(self.ca()),
            certificate: identity.as_ref().map(|(certificate, _)| certificate.clone()),
            key: identity.map(|(_, key)| key),
            server_name: None,
        }
    }
}

fn movie() -> ClassifyRequest {
    ClassifyRequest { overview: "a storm".to_owned(), ..ClassifyRequest::default() }
}

async fn call(port: u16, tls: &ClientTlsSettings) -> Result<ClassifyResponse, Status> {
    let target = Target::parse(&format!("https://localhost:{port}")).unwrap();
    let channel = target.channel(None, Some(ClientTls::new(tls).unwrap()));
    let mut request = Request::new(movie());
    request.set_timeout(Duration::from_secs(10));
    Ok(ClassifierServiceClient::new(channel).classify(request).await?.into_inner())
}

/// Retries, because the service listens before its first check of the encoder is done.
async fn call_until_ready(port: u16, tls: &ClientTlsSettings) -> ClassifyResponse {
    for _ in 0..100 {
        match call(port, tls).await {
            Ok(response) => return response,
            Err(_) => tokio::time::sleep(Duration::from_millis(50)).await,
        }
    }
    call(port, tls).await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn both_services_can_require_mutual_tls() {
    let (services, clients) = (Authority::new(), Authority::new());
    let mut settings = encoder_settings("tiny-512", any_port());
    settings.tls = services.server(Some(clients.ca()));
    let encoder = start_encoder_with(settings).await;
    let (_folder, model) = model_file("tiny-512");
    let url = format!("https://localhost:{}", encoder.address.port());
    let mut settings = classifier_settings(&model, &url);
    settings.encoder.tls = services.client(Some(&clients));
    settings.tls = services.server(Some(clients.ca()));
    let port = start_classifier_with(settings).address.port();

    call_until_ready(port, &services.client(Some(&clients))).await;
    // No certificate, one of another authority, and an untrusted service.
    let stranger = Authority::new();
    assert!(call(port, &services.client(None)).await.is_err());
    assert!(call(port, &services.client(Some(&stranger))).await.is_err());
    assert!(call(port, &stranger.client(Some(&clients))).await.is_err());
}

#[tokio::test(flavor = "multi_thread")]
async fn new_connections_get_replaced_certificates() {
    let (old, new) = (Authority::new(), Authority::new());
    let encoder = start_encoder_with(encoder_settings("tiny-512", any_port())).await;
    let (_folder, model) = model_file("tiny-512");
    let mut settings = classifier_settings(&model, &encoder.url());
    settings.tls = old.server(None);
    let in_use = settings.tls.clone();
    let port = start_classifier_with(settings).address.port();
    call_until_ready(port, &old.client(None)).await;

    // An invalid file leaves the old certificate in use.
    let replace = |from: &[u8], to: &Path| {
        let temporary = to.with_extension("tmp");
        std::fs::write(&temporary, from).unwrap();
        std::fs::rename(temporary, to).unwrap();
    };
    replace(b"nonsense", in_use.certificate.as_deref().unwrap());
    tokio::time::sleep(Duration::from_millis(300)).await;
    call(port, &old.client(None)).await.unwrap();

    let (certificate, key) = new.sign("localhost");
    replace(&std::fs::read(key).unwrap(), in_use.key.as_deref().unwrap());
    replace(&std::fs::read(certificate).unwrap(), in_use.certificate.as_deref().unwrap());
    call_until_ready(port, &new.client(None)).await;
    assert!(call(port, &old.client(None)).await.is_err());
}

#[tokio::test(flavor = "multi_thread")]
async fn silent_handshakes_do_not_delay_other_clients() {
    let authority = Authority::new();
    let encoder = start_encoder_with(encoder_settings("tiny-512", any_port())).await;
    let (_folder, model) = model_file("tiny-512");
    let mut settings = classifier_settings(&model, &encoder.url());
    settings.tls = authority.server(None);
    let address = start_classifier_with(settings).address;
    let mut silent = Vec::new();
    for _ in 0..50 {
        silent.push(tokio::net::TcpStream::connect(address).await.unwrap());
    }
    let client = authority.client(None);
    let response = call_until_ready(address.port(), &client);
    tokio::time::timeout(Duration::from_secs(8), response).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn the_classifier_sends_its_key_to_the_encoder() {
    let key = |text: &str| ApiKeySettings {
        name: "classifier".to_owned(),
        sha256: hex::encode(Sha256::digest(text)),
        ..ApiKeySettings::default()
    };
    let mut settings = encoder_settings("tiny-512", any_port());
    settings.auth.keys = vec![key("right")];
    let encoder = start_encoder_with(settings).await;
    let (folder, model) = model_file("tiny-512");
    let file = folder.path().join("key");
    std::fs::write(&file, "right\n").unwrap();
    let mut settings = classifier_settings(&model, &encoder.url());
    settings.encoder.api_key_file = Some(file);
    let right = start_classifier_with(settings);
    right.client().classify(movie()).await.unwrap();

    let mut settings = classifier_settings(&model, &encoder.url());
    settings.encoder.api_key = Some("wrong".to_owned().into());
    let wrong = start_classifier_with(settings);
    let failure = wrong.client().classify(movie()).await.unwrap_err();
    // The operator's key is wrong, so the client is not told to authenticate.
    assert_eq!(failure.code(), Code::Internal, "{failure:?}");
    assert!(!format!("{failure:?}").contains("wrong\""), "{failure:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn no_secret_is_logged_at_any_level() {
    let secrets = ["callers-key-4711", "encoders-key-0815", "guess-of-a-key-42"];
    let mut settings = encoder_settings("tiny-512", any_port());
    settings.auth.keys = vec![ApiKeySettings {
        name: "classifier".to_owned(),
        sha256: hex::encode(Sha256::digest(secrets[1])),
        ..ApiKeySettings::default()
    }];
    let encoder = start_encoder_with(settings).await;
    let (folder, model) = model_file("tiny-512");
    let config = folder.path().join("config.toml");
    let hash = hex::encode(Sha256::digest(secrets[0]));
    let text = format!(
        "[encoder]\nurl = \"{}\"\napi_key = \"{}\"\n[[auth.keys]]\nname = \"caller\"\nsha256 = \"{hash}\"\n",
        encoder.url(),
        secrets[1]
    );
    std::fs::write(&config, text).unwrap();
    let port = std::net::TcpListener::bind(any_port()).unwrap().local_addr().unwrap().port();
    let mut service = tokio::process::Command::new(env!("CARGO_BIN_EXE_classifier-svc"))
        .args(["serve", "--rest-listen", "127.0.0.1:0", "--listen", &format!("127.0.0.1:{port}")])
        .args(["--config", &config.to_string_lossy(), "--model", &model.to_string_lossy()])
        .env("RUST_LOG", "trace")
        .env("ORT_DYLIB_PATH", runtime_library())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .unwrap();
    let mut stderr = service.stderr.take().unwrap();
    let log = tokio::spawn(async move {
        let mut log = Vec::new();
        tokio::io::AsyncReadExt::read_to_end(&mut stderr, &mut log).await.unwrap();
        String::from_utf8_lossy(&log).into_owned()
    });
    let url = format!("http://127.0.0.1:{port}");
    service_kit::healthcheck(&url, Duration::from_secs(20), None).await.unwrap();
    let channel = Target::parse(&url).unwrap().channel(None, None);
    let mut codes = Vec::new();
    for key in [secrets[0], secrets[2]] {
        let mut request = Request::new(movie());
        request.metadata_mut().insert("authorization", format!("Bearer {key}").parse().unwrap());
        let response = ClassifierServiceClient::new(channel.clone()).classify(request).await;
        codes.push(response.map_or_else(|status| status.code(), |_| Code::Ok));
    }
    assert_eq!(codes, [Code::Ok, Code::Unauthenticated]);
    service.kill().await.unwrap();
    let log = log.await.unwrap();
    assert!(log.contains("TRACE"), "expected a full log, found {} bytes", log.len());
    for secret in secrets {
        assert!(!log.contains(secret), "{secret} is in the log");
    }
}
