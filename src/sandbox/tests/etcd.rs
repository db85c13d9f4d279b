//! A real etcd as a child.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "helpers of tests")]

use std::time::Duration;

use overlord_sandbox::{Etcd, EtcdConfig, EtcdError};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};

async fn request(etcd: &Etcd, path: &str, body: &str) -> String {
    let mut stream = TcpStream::connect(etcd.address()).await.unwrap();
    let length = body.len();
    let head = format!("POST {path} HTTP/1.0\r\nHost: etcd\r\nContent-Length: {length}\r\n\r\n{body}");
    stream.write_all(head.as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    answer
}

#[tokio::test]
async fn etcd_serves_keeps_its_data_over_a_restart_and_stops_without_a_trace() {
    let dir = tempfile::tempdir().unwrap();
    let config = EtcdConfig::new(dir.path().join("etcd"));
    let etcd = Etcd::start(&config, None).await.unwrap();
    assert!(etcd.endpoint().starts_with("http://127.0.0.1:"));
    // The keys "key" and "value" in base64.
    let put = request(&etcd, "/v3/kv/put", r#"{"key": "a2V5", "value": "dmFsdWU="}"#).await;
    assert!(put.contains("revision"), "{put}");
    let pid = etcd.pid().unwrap();
    etcd.stop().await;
    assert!(!std::path::Path::new(&format!("/proc/{pid}")).exists());

    let etcd = Etcd::start(&config, None).await.unwrap();
    let got = request(&etcd, "/v3/kv/range", r#"{"key": "a2V5"}"#).await;
    assert!(got.contains("dmFsdWU="), "{got}");
    etcd.stop().await;
}

#[tokio::test]
async fn the_end_of_etcd_is_told() {
    let dir = tempfile::tempdir().unwrap();
    let mut etcd = Etcd::start(&EtcdConfig::new(dir.path()), None).await.unwrap();
    let session = overlord_sandbox::Session::of_leader(etcd.pid().unwrap()).unwrap();
    session.signal(rustix::process::Signal::KILL);
    let status = tokio::time::timeout(Duration::from_secs(10), etcd.exited()).await.unwrap().unwrap();
    assert!(!status.success());
    etcd.stop().await;
}

#[tokio::test]
async fn an_etcd_that_is_not_installed_or_cannot_use_its_data_says_so() {
    let dir = tempfile::tempdir().unwrap();
    let mut config = EtcdConfig::new(dir.path());
    config.binary = "/no/such/etcd".into();
    let error = Etcd::start(&config, None).await.unwrap_err();
    assert!(matches!(error, EtcdError::Run { .. }), "{error}");
    assert!(error.to_string().contains("/no/such/etcd"), "{error}");

    std::fs::write(dir.path().join("data"), "not a directory").unwrap();
    let error = Etcd::start(&EtcdConfig::new(dir.path()), None).await.unwrap_err();
    assert!(matches!(error, EtcdError::Ended { .. }), "{error}");
}
