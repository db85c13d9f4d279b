//! The binary that agents fetch, over real sockets.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "helpers of tests")]

use std::{path::Path, sync::Arc};

use overlord_reconcile::SystemClock;
use overlord_server::{ApiConfig, Program, router, serve};
use overlord_store::MemoryStore;
use reqwest::{Method, Response, StatusCode};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

mod common;

struct World {
    base: String,
    http: reqwest::Client,
    _serving: tokio::task::JoinSet<std::io::Result<()>>,
}

impl World {
    async fn new(program: Option<Arc<Program>>, config: ApiConfig) -> Self {
        let shutdown = CancellationToken::new();
        let store = Arc::new(MemoryStore::new(Arc::new(SystemClock::new())));
        let state = common::state(store, shutdown.clone()).with_config(config).with_program(program);
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let base = format!("http://{}", listener.local_addr().unwrap());
        let mut serving = tokio::task::JoinSet::new();
        serving.spawn(serve(listener, router(state), shutdown));
        let http = reqwest::Client::builder().no_proxy().build().unwrap();
        Self { base, http, _serving: serving }
    }

    async fn ask(&self, method: Method, path: &str, headers: &[(&str, &str)]) -> Response {
        let mut request = self.http.request(method, format!("{}{path}", self.base));
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        request.send().await.unwrap()
    }
}

fn program(folder: &Path, bytes: &[u8]) -> Arc<Program> {
    let path = folder.join("overlord");
    std::fs::write(&path, bytes).unwrap();
    Arc::new(Program::open(&path).unwrap())
}

#[tokio::test]
async fn the_binary_is_served_whole_under_its_digest_and_never_changes() {
    let folder = tempfile::tempdir().unwrap();
    let bytes: Vec<u8> = (0..1_000_003_u32).map(|n| (n % 251) as u8).collect();
    let program = program(folder.path(), &bytes);
    let world = World::new(Some(Arc::clone(&program)), ApiConfig::default()).await;

    // A fetcher with a cache asks for the length first.
    let head = world.ask(Method::HEAD, &program.path(), &[]).await;
    assert_eq!(
        (head.status(), head.headers()["content-length"].to_str().unwrap()),
        (StatusCode::OK, "1000003")
    );
    assert!(head.bytes().await.unwrap().is_empty());

    let answer = world.ask(Method::GET, &program.path(), &[]).await;
    let etag = format!("\"{}\"", program.sha256());
    for (name, value) in [
        ("content-length", "1000003"),
        ("content-type", "application/octet-stream"),
        ("etag", &etag),
        ("cache-control", "public, max-age=31536000, immutable"),
    ] {
        assert_eq!(answer.headers()[name].to_str().unwrap(), value);
    }
    assert!(answer.bytes().await.unwrap() == bytes);

    let again = world.ask(Method::GET, &program.path(), &[("if-none-match", &etag)]).await;
    assert_eq!(again.status(), StatusCode::NOT_MODIFIED);
}

#[tokio::test]
async fn there_is_nothing_else_to_be_had() {
    let folder = tempfile::tempdir().unwrap();
    let program = program(folder.path(), b"binary");
    let world = World::new(Some(Arc::clone(&program)), ApiConfig::default()).await;
    let other = "0".repeat(64);
    for path in [
        "/v1/executor".to_owned(),
        "/v1/executor/".to_owned(),
        format!("/v1/executor/{}", program.sha256()),
        format!("/v1/executor/{}/", program.sha256()),
        format!("/v1/executor/{}/other", program.sha256()),
        format!("/v1/executor/{}/../../../etc/passwd", program.sha256()),
        "/v1/executor/..%2f..%2fetc%2fpasswd/overlord".to_owned(),
        format!("/v1/executor/{other}/overlord"),
    ] {
        let answer = world.ask(Method::GET, &path, &[]).await;
        assert_eq!(answer.status(), StatusCode::NOT_FOUND, "{path}");
    }
    let answer = world.ask(Method::GET, &format!("/v1/executor/{other}/overlord"), &[]).await;
    let text = answer.text().await.unwrap();
    assert!(text.contains(program.sha256()) && text.contains("launches it again"), "{text}");
    let posted = world.ask(Method::POST, &program.path(), &[]).await;
    assert_eq!(posted.status(), StatusCode::METHOD_NOT_ALLOWED);

    let none = World::new(None, ApiConfig::default()).await;
    assert_eq!(none.ask(Method::GET, &program.path(), &[]).await.status(), StatusCode::NOT_FOUND);
}

#[tokio::test]
async fn a_loopback_api_answers_also_under_the_name_that_it_advertises() {
    let advertised = Some("overlord.example:8880".to_owned());
    let world = World::new(None, ApiConfig { advertised, ..ApiConfig::default() }).await;
    for (host, status) in [
        ("overlord.example:8880", StatusCode::OK),
        ("evil.example:8880", StatusCode::FORBIDDEN),
        ("localhost", StatusCode::OK),
    ] {
        assert_eq!(world.ask(Method::GET, "/healthz", &[("host", host)]).await.status(), status, "{host}");
    }
}
