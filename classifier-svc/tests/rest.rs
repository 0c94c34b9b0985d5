//! The REST contract: the routes over a real encoder, called without a socket.
#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod common;

use axum::Router;
use axum::body::{Body, to_bytes};
use classifier_svc::config::ClassifierSvcConfig;
use classifier_svc::{Call, Classifier, ClassifierSvcSettings, Include, ModelStore, rest};
use common::{Running, any_port, classifier_settings, model_file, start_encoder};
use encoder_client::EncoderClient;
use http::{HeaderMap, Request, StatusCode};
use proto::classifier::v1::Movie;
use serde_json::{Value, json};
use service_kit::{ApiKeySettings, Caller, Deadline, Metrics, Readiness, Shutdown, canonical_path};
use sha2::{Digest as _, Sha256};
use tower::ServiceExt as _;

struct Api {
    routes: Router,
    classifier: Classifier,
    _encoder: Running,
    _folder: tempfile::TempDir,
}

struct Reply {
    status: StatusCode,
    headers: HeaderMap,
    json: Value,
}

impl Api {
    async fn start(change: impl FnOnce(&mut ClassifierSvcSettings)) -> Self {
        let encoder = start_encoder("tiny-512", any_port()).await;
        let (folder, model) = model_file("tiny-512");
        let mut settings = classifier_settings(&model, &encoder.url());
        change(&mut settings);
        let config = ClassifierSvcConfig::try_from(settings).unwrap();
        let metrics = Metrics::default();
        let models = ModelStore::load(config.model.clone(), &metrics).unwrap();
        let encoders = EncoderClient::discover(config.encoder, &metrics, Shutdown::new()).await;
        let classifier = Classifier::new(models, encoders, config.limits);
        let routes = rest::routes_with_open_inference(
            classifier.clone(),
            Readiness::default(),
            &config.rest.unwrap(),
            config.keys,
            service_kit::MemoryBudget::for_messages_of(1 << 20),
        );
        let routes = rest::with_security_headers(routes);
        Self { routes, classifier, _encoder: encoder, _folder: folder }
    }

    async fn call(&self, request: Request<Body>) -> Reply {
        let response = self.routes.clone().oneshot(canonical_path(request)).await.unwrap();
        let (parts, body) = response.into_parts();
        let bytes = to_bytes(body, 1 << 24).await.unwrap();
        let json = serde_json::from_slice(&bytes).unwrap_or(Value::Null);
        Reply { status: parts.status, headers: parts.headers, json }
    }

    async fn post(&self, path: &str, body: impl Into<Body>) -> Reply {
        let request = Request::post(path).header("content-type", "application/json");
        self.call(request.body(body.into()).unwrap()).await
    }
}

#[tokio::test]
async fn a_response_includes_scores_and_explanation_only_on_request() {
    let api = Api::start(|_| {}).await;
    let movie = json!({"title": "Harbour", "overview": "a storm over the sea. A horse."});
    let plain = api.post("/v1/movies:classify", movie.to_string()).await;
    assert_eq!(plain.status, 200, "{}", plain.json);
    assert!(plain.json.get("scores").is_none() && plain.json.get("explanation").is_none(), "{}", plain.json);
    let mut all = movie;
    all["include_scores"] = true.into();
    all["explain"] = true.into();
    let all = api.post("/v1/movies:classify", all.to_string()).await.json;
    assert_eq!(all["scores"].as_array().unwrap().len(), 20);
    assert_eq!(all["genres"], plain.json["genres"]);
    let segments = all["explanation"]["segments"].as_array().unwrap();
    assert_eq!((segments.len(), &segments[0]["source"]), (3, &json!("title")));
    let contribution = &segments[1]["contributions"][0];
    let (with, without) = (&all["scores"][0]["probability"], &contribution["probability_without"]);
    let added = with.as_f64().unwrap() - without.as_f64().unwrap();
    assert!((contribution["contribution"].as_f64().unwrap() - added).abs() < 1e-6, "{contribution}");
}

#[tokio::test]
async fn predict_genre_answers_like_the_reference_system() {
    let api = Api::start(|_| {}).await;
    let request = json!({"title": ["Harbour", ""], "overview": ["a storm over the sea", "a horse"]});
    for path in ["/predict_genre/", "/predict_genre"] {
        let response = api.post(path, request.to_string()).await;
        assert_eq!(response.status, 200, "{}", response.json);
        let movies = response.json.as_array().unwrap();
        assert_eq!(movies.len(), 2);
        for (index, movie) in movies.iter().enumerate() {
            let keys: Vec<_> = movie.as_object().unwrap().keys().map(String::as_str).collect();
            assert_eq!(keys, ["genre", "overview", "title"]);
            assert_eq!(movie["overview"], request["overview"][index]);
            // The genres of /v1/movies:classify, in the order of the labels.
            let ours =
                json!({"title": movie["title"], "overview": movie["overview"], "include_scores": true});
            let ours = api.post("/v1/movies:classify", ours.to_string()).await.json;
            let over = |score: &&Value| score["probability"].as_f64() > score["threshold"].as_f64();
            let labels = ours["scores"].as_array().unwrap().iter().filter(over);
            let labels: Vec<_> = labels.map(|score| score["label"].as_str().unwrap()).collect();
            assert_eq!(movie["genre"], labels.join(", "));
        }
    }
}

#[tokio::test]
async fn an_invalid_request_is_a_problem_that_names_the_field() {
    let api = Api::start(|_| {}).await;
    let long = json!({"overview": "é".repeat(7501)}).to_string();
    // More than the largest batch of any setting.
    let titles = json!({"title": vec![""; 100_000], "overview": []}).to_string();
    let movies = json!({"movies": vec![json!({"overview": ""}); 100_000]}).to_string();
    let cases: Vec<(&str, String, u16, &str, &str)> = vec![
        ("/v1/movies:classify", json!({"overview": " "}).to_string(), 400, "EMPTY_TEXT", "overview"),
        ("/v1/movies:classify", long, 400, "TEXT_TOO_LONG", "overview"),
        ("/v1/movies:classify", "{".to_owned(), 400, "INVALID_JSON", "(body)"),
        ("/v1/movies:classify", "{} x".to_owned(), 400, "INVALID_JSON", "(body)"),
        ("/v1/movies:classify", json!({"overview": 3}).to_string(), 400, "INVALID_JSON", "overview"),
        (
            "/v1/movies:classify",
            json!({"overview": "a", "titel": ""}).to_string(),
            400,
            "INVALID_JSON",
            "titel",
        ),
        ("/v1/movies:batchClassify", json!({"movies": []}).to_string(), 400, "EMPTY_BATCH", "movies"),
        ("/v1/movies:batchClassify", movies, 400, "INVALID_JSON", "movies"),
        ("/predict_genre/", titles, 400, "INVALID_JSON", "title"),
        (
            "/v1/movies:batchClassify",
            json!({"movies": [{"overview": "a"}, {"overview": ""}]}).to_string(),
            400,
            "EMPTY_TEXT",
            "movies[1].overview",
        ),
        (
            "/predict_genre/",
            json!({"title": ["a"], "overview": ["a", "b"]}).to_string(),
            400,
            "LENGTHS_DIFFER",
            "overview",
        ),
        (
            "/predict_genre/",
            json!({"title": [""], "overview": [""]}).to_string(),
            400,
            "EMPTY_TEXT",
            "overview[0]",
        ),
    ];
    for (path, body, status, reason, field) in cases {
        let response = api.post(path, body.clone()).await;
        assert_eq!(response.status, status, "{path} {body:.60}: {}", response.json);
        assert_eq!(response.headers["content-type"], "application/problem+json");
        assert_eq!(response.json["reason"], reason, "{path} {body:.60}: {}", response.json);
        assert_eq!(response.json["errors"][0]["field"], field, "{path} {body:.60}: {}", response.json);
    }
    let request = Request::post("/v1/movies:classify").body(Body::from("{}")).unwrap();
    assert_eq!(api.call(request).await.json["reason"], "UNSUPPORTED_MEDIA_TYPE");
    let lost = api.call(Request::get("/nowhere").body(Body::empty()).unwrap()).await;
    assert_eq!((lost.status.as_u16(), &lost.json["reason"]), (404, &json!("NOT_FOUND")));
    let wrong = api.call(Request::get("/v1/movies:classify").body(Body::empty()).unwrap()).await;
    assert_eq!((wrong.status.as_u16(), wrong.headers["allow"].as_bytes()), (405, &b"POST"[..]));
}

#[tokio::test]
async fn rejects_an_oversized_body_without_reading_it() {
    let api = Api::start(|settings| settings.limits.max_batch_size = 1).await;
    let body = json!({"overview": "a".repeat(200_000)}).to_string();
    let response = api.post("/v1/movies:classify", body).await;
    assert_eq!((response.status.as_u16(), &response.json["reason"]), (413, &json!("MESSAGE_TOO_LARGE")));
}

#[tokio::test]
async fn rejects_a_lone_surrogate_and_accepts_a_pair() {
    let api = Api::start(|_| {}).await;
    let lone = api.post("/v1/movies:classify", r#"{"overview": "\ud83d rain"}"#).await;
    assert_eq!(lone.status, 400, "{}", lone.json);
    let pair = api.post("/v1/movies:classify", r#"{"overview": "\ud83d\ude00 rain\u0000"}"#).await;
    assert_eq!(pair.status, 200, "{}", pair.json);
}

/// The key "open sesame", without limits.
fn key() -> ApiKeySettings {
    ApiKeySettings {
        name: "test".to_owned(),
        sha256: hex::encode(Sha256::digest("open sesame")),
        ..ApiKeySettings::default()
    }
}

/// Classifies one movie with that key.
fn with_key() -> Request<Body> {
    Request::post("/v1/movies:classify")
        .header("content-type", "application/json")
        .header("authorization", "Bearer open sesame")
        .body(Body::from(json!({"overview": "rain"}).to_string()))
        .unwrap()
}

#[tokio::test]
async fn keys_guard_the_api_but_not_the_page() {
    let key = ApiKeySettings { requests_per_second: 2, ..key() };
    let api = Api::start(|settings| settings.auth.keys = vec![key]).await;
    let body = json!({"overview": "rain"}).to_string();
    let closed = api.post("/v1/movies:classify", body).await;
    assert_eq!((closed.status.as_u16(), &closed.json["reason"]), (401, &json!("UNAUTHENTICATED")));
    assert_eq!(closed.headers["www-authenticate"], "Bearer");
    assert_eq!(api.call(with_key()).await.status, 200);
    assert_eq!(api.call(with_key()).await.status, 200);
    let limited = api.call(with_key()).await;
    assert_eq!((limited.status.as_u16(), &limited.json["reason"]), (429, &json!("RATE_LIMITED")));
    assert_eq!(limited.headers["retry-after"], "1");
    for open in ["/", "/app.js", "/style.css", "/openapi.json"] {
        assert_eq!(api.call(Request::get(open).body(Body::empty()).unwrap()).await.status, 200, "{open}");
    }
}

#[tokio::test]
async fn a_call_without_room_in_flight_is_not_charged() {
    let key = ApiKeySettings { texts_per_second: 1, texts_burst: 1, ..key() };
    let api = Api::start(|settings| {
        settings.auth.keys = vec![key];
        settings.limits.movies_in_flight = 1;
    })
    .await;
    let movie = Movie { overview: "rain".to_owned(), ..Movie::default() };
    let other = Call { caller: Caller::UNKNOWN, deadline: Deadline::NONE, is_item: true };
    let in_flight = api.classifier.admit_item(&movie, Include::default(), &other).await.unwrap();
    // If the first call were charged, the second would be RATE_LIMITED.
    for _ in 0..2 {
        let rejected = api.call(with_key()).await;
        assert_eq!((rejected.status.as_u16(), &rejected.json["reason"]), (503, &json!("QUEUE_FULL")));
    }
    drop(in_flight);
    assert_eq!(api.call(with_key()).await.status, 200);
}

#[tokio::test]
async fn allows_other_origins_only_if_configured() {
    const ORIGIN: &str = "https://movies.example";
    let preflight = |path: &str| {
        Request::options(path)
            .header("origin", ORIGIN)
            .header("access-control-request-method", "POST")
            .body(Body::empty())
            .unwrap()
    };
    let closed = Api::start(|_| {}).await;
    let open = Api::start(|settings| settings.rest.cors_origins = vec![ORIGIN.to_owned()]).await;
    for path in ["/v1/movies:classify", "/predict_genre/", "/v2/models/genres/infer"] {
        let response = closed.call(preflight(path)).await;
        assert!(!response.headers.contains_key("access-control-allow-origin"), "{path}");
        let headers = open.call(preflight(path)).await.headers;
        assert_eq!(headers["access-control-allow-origin"], ORIGIN, "{path}");
        let allowed = headers["access-control-allow-headers"].to_str().unwrap();
        for header in ["content-type", "authorization", "x-api-key", "inference-header-content-length"] {
            assert!(allowed.split(',').any(|found| found == header), "{path}: {allowed}");
        }
    }
    let model = Request::get("/v2/models/genres").header("origin", ORIGIN).body(Body::empty()).unwrap();
    let model = open.call(model).await;
    assert_eq!(model.status, 200, "{}", model.json);
    assert_eq!(model.headers["access-control-allow-origin"], ORIGIN);
    let exposed = model.headers["access-control-expose-headers"].to_str().unwrap();
    assert!(exposed.contains("inference-header-content-length"), "{exposed}");
}

#[tokio::test]
async fn every_response_has_security_headers() {
    let api = Api::start(|_| {}).await;
    for path in ["/", "/v1/model", "/nowhere"] {
        let headers = api.call(Request::get(path).body(Body::empty()).unwrap()).await.headers;
        assert!(
            headers["content-security-policy"].to_str().unwrap().contains("default-src 'none'"),
            "{path}"
        );
        assert_eq!(headers["x-content-type-options"], "nosniff");
        assert_eq!(headers["x-frame-options"], "DENY");
    }
}

#[tokio::test]
async fn the_openapi_document_states_limits_and_problems() {
    let api = Api::start(|settings| {
        settings.limits.max_batch_size = 7;
        settings.limits.max_overview_chars = 99;
    })
    .await;
    let document = api.call(Request::get("/openapi.json").body(Body::empty()).unwrap()).await.json;
    assert_eq!(document["openapi"], "3.1.0");
    let schemas = &document["components"]["schemas"];
    assert_eq!(schemas["ClassifyRequest"]["properties"]["overview"]["maxLength"], 99);
    assert_eq!(schemas["Movie"]["properties"]["overview"]["maxLength"], 99);
    assert_eq!(schemas["BatchClassifyRequest"]["properties"]["movies"]["maxItems"], 7);
    assert_eq!(schemas["PredictGenreRequest"]["properties"]["title"]["maxItems"], 7);
    for path in ["/v1/movies:classify", "/v1/movies:batchClassify", "/predict_genre/"] {
        let responses = &document["paths"][path]["post"]["responses"];
        for status in ["200", "400", "401", "413", "415", "421", "429", "500", "503", "504"] {
            assert!(responses.get(status).is_some(), "{path} {status}");
            if status != "200" {
                let reference = responses[status]["$ref"].as_str().unwrap();
                let name = reference.strip_prefix("#/components/responses/").unwrap();
                let content = &document["components"]["responses"][name]["content"];
                let schema = &content["application/problem+json"]["schema"]["$ref"];
                assert_eq!(schema, "#/components/schemas/Problem", "{path} {status}");
            }
        }
        // Generators make a key mandatory for an operation with a requirement of its own.
        assert!(document["paths"][path]["post"].get("security").is_none());
    }
    assert_eq!(document["security"], json!([{}, {"apiKey": []}]));
}
