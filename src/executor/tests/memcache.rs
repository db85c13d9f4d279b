//! The executor on a real memcached, and binaries that have to be fetched first.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "helpers of tests")]

mod common;

use std::fs;

use common::{TASK, World, is_alive, signal};
use overlord_api::{Address, Kind, State};
use overlord_executor::Install;
use overlord_mesos::v1::TaskState;
use rustix::process::Signal;
use sha2::{Digest as _, Sha256};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpListener,
    task::JoinSet,
};

fn conf(address: Address) -> String {
    format!("listen={}\nport={}\nudp-port=0\nmemory-limit=16\nthreads=1\n", address.ip, address.port)
}

#[tokio::test]
async fn it_starts_is_restarted_and_stops() {
    let mut world = World::new(Kind::Memcache, conf);
    world.launch();
    let first = world.running().await;
    assert!(world.ask("version").await.starts_with("VERSION 1.6"));
    assert!(world.dir().join("memcache.conf").exists() && world.dir().join("memcache.pid").exists());
    let environment = fs::read_to_string(format!("/proc/{}/environ", first.pid.unwrap())).unwrap();
    let names: Vec<&str> =
        environment.split('\0').filter_map(|entry| Some(entry.split_once('=')?.0)).collect();
    assert_eq!(names, ["LANG", "PATH"]);
    signal(first.pid.unwrap(), Signal::KILL);
    world.update("restarting", |_, report| report.state == State::Restarting).await;
    let second = world.running().await;
    assert_eq!(second.restarts, 1);
    *world.keys.0.lock().unwrap() = None;
    world.agent.kill(TASK);
    world.update("killed", |state, _| state == TaskState::Killed).await;
    world.ended().await;
    assert!(!is_alive(second.pid.unwrap()));
    assert!(!world.dir().exists());
}

#[tokio::test]
async fn a_bad_option_is_reported_in_the_servers_words() {
    let mut world = World::new(Kind::Memcache, |address| format!("{}bogus=1\n", conf(address)));
    world.launch();
    let message = world.failed().await;
    assert!(message.contains("at start") && message.contains("bogus"), "{message}");
}

#[tokio::test]
async fn a_changed_option_waits_for_a_restart() {
    let mut world = World::new(Kind::Memcache, conf);
    world.launch();
    world.running().await;
    world.order(|keys| {
        keys.server_conf = keys.server_conf.replace("threads=1", "threads=2");
        keys.info.desired.config = 2;
    });
    world.update("restart needed", |_, report| report.config == 2 && report.restart_needed).await;
    world.order(|keys| keys.info.desired.restart = 7);
    let after = world.update("restart 7", |_, report| report.restart == 7).await;
    assert!(!after.restart_needed);
    assert!(world.ask("stats settings").await.contains("num_threads 2"));
}

/// Serves one file, until it is dropped.
async fn serve(body: Vec<u8>) -> (String, JoinSet<()>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/memcached", listener.local_addr().unwrap());
    let mut server = JoinSet::new();
    server.spawn(async move {
        loop {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut request = [0; 4096];
            assert!(stream.read(&mut request).await.unwrap() > 0);
            let head =
                format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\nConnection: close\r\n\r\n", body.len());
            stream.write_all(head.as_bytes()).await.unwrap();
            stream.write_all(&body).await.unwrap();
        }
    });
    (url, server)
}

fn sha256(body: &[u8]) -> String {
    Sha256::digest(body).iter().fold(String::new(), |hex, byte| format!("{hex}{byte:02x}"))
}

#[tokio::test]
async fn a_missing_binary_is_fetched_checked_and_used() {
    let mut world = World::new(Kind::Memcache, conf);
    fs::remove_file(world.binary()).unwrap();
    let body = fs::read("/usr/bin/memcached").unwrap();
    let sha256 = sha256(&body);
    let (url, _server) = serve(body).await;
    world.install = Some(Install { url, sha256 });
    world.launch();
    world.running().await;
    assert!(world.ask("version").await.starts_with("VERSION"));
    let bin = world.binary();
    let entries: Vec<_> =
        fs::read_dir(bin.parent().unwrap()).unwrap().map(|e| e.unwrap().file_name()).collect();
    assert_eq!(entries.len(), 2, "the binary and the lock: {entries:?}");
    drop(world);
}

#[tokio::test]
async fn a_binary_with_another_digest_is_not_installed() {
    let mut world = World::new(Kind::Memcache, conf);
    fs::remove_file(world.binary()).unwrap();
    let sha256 = sha256(b"what was promised");
    let (url, _server) = serve(b"something else".to_vec()).await;
    world.install = Some(Install { url, sha256: sha256.clone() });
    world.launch();
    let message = world.failed().await;
    assert!(message.contains(&format!("the engine catalogue says {sha256}")), "{message}");
    assert!(!world.binary().exists());
}
