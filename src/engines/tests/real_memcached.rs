//! The options, the rendered text and the client, held to the memcached that is installed.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a helper that fails fails its test")]

mod support;

use std::{
    io::{Read, Write},
    net::TcpStream,
};

use overlord_api::{Kind, Persistence};
use overlord_engines::{AdminError, Change, Directive, ValueType, diff, memcache_options};
use support::{Input, Server, golden, installed};

fn memcache() -> Input {
    Input::new(Kind::Memcache, &installed("memcached"))
}

/// The lines of an answer to one command.
fn ask(server: &Server, command: &str) -> String {
    let mut stream = TcpStream::connect(("127.0.0.1", server.port)).unwrap();
    stream.write_all(format!("{command}\r\nquit\r\n").as_bytes()).unwrap();
    let mut said = String::new();
    stream.read_to_string(&mut said).unwrap();
    said
}

fn setting(server: &Server, name: &str) -> Option<String> {
    let said = ask(server, "stats settings");
    said.lines().find_map(|line| Some(line.strip_prefix(&format!("STAT {name} "))?.to_owned()))
}

/// A value that is not the default.
fn other_value(row: &Directive) -> String {
    match row.value {
        ValueType::Bool => if row.default == Some("yes") { "no" } else { "yes" }.to_owned(),
        ValueType::Int { min, max } => {
            let default = row.default.and_then(|default| default.parse().ok()).unwrap_or(min);
            if default < max { default + 1 } else { default - 1 }.to_string()
        }
        ValueType::Seconds { .. } => "60".to_owned(),
        ValueType::Size { .. } => "2m".to_owned(),
        ValueType::Decimal { max, .. } => (max / 2.0).min(1.5).to_string(),
        ValueType::Enum(words) => words[1].to_owned(),
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn memcached_starts_with_each_option_of_the_table() {
    for row in memcache_options().iter().filter(|row| row.is_in((1, 6))) {
        let value = other_value(row);
        let server = Server::start(&memcache().with(row.name, &value));
        assert!(server.admin().await.probe().await.unwrap().serving, "{} {value}", row.name);
        assert_eq!(server.conf.get(row.name), Some(value.as_str()), "{}", row.name);
    }
}

#[tokio::test]
async fn rendered_options_are_in_effect() {
    let (_, input) = golden().into_iter().find(|(name, _)| *name == "memcache-1.6").unwrap();
    let server = Server::start(&input);
    for (name, value) in [
        ("maxbytes", (409_u64 << 20).to_string()),
        ("maxconns", "2048".to_owned()),
        ("tcpport", server.port.to_string()),
        ("udpport", "0".to_owned()),
        ("inter", "127.0.0.1".to_owned()),
        ("item_size_max", "2097152".to_owned()),
        ("idle_timeout", "60".to_owned()),
        ("lru_crawler", "no".to_owned()),
        ("cas_enabled", "no".to_owned()),
        ("track_sizes", "yes".to_owned()),
        ("evictions", "on".to_owned()),
        ("verbosity", "2".to_owned()),
    ] {
        assert_eq!(setting(&server, name), Some(value), "{name}");
    }
}

#[tokio::test]
async fn a_probe_counts_keys_and_names_the_process() {
    let server = Server::start(&memcache());
    let mut admin = server.admin().await;
    assert!(admin.persisted().await.unwrap());
    assert!(ask(&server, "set a 0 0 1\r\nx").contains("STORED"));
    let health = admin.probe().await.unwrap();
    assert_eq!(
        (health.serving, health.pid, health.role.as_deref()),
        (true, Some(server.pid()), Some("single"))
    );
    assert_eq!(admin.keys().await.unwrap(), 1);
    assert!(!admin.persisted().await.unwrap());
    assert!(matches!(admin.save().await, Err(AdminError::Unsupported { .. })));
    assert!(matches!(admin.shutdown(Persistence::None).await, Err(AdminError::Unsupported { .. })));
}

#[tokio::test]
async fn the_memory_limit_is_changed_while_it_runs() {
    let server = Server::start(&memcache());
    let mut admin = server.admin().await;
    let new = memcache().with("memory-limit", "100").with("verbose", "1").render(server.port, 0);
    let changes = diff(Kind::Memcache, &installed("memcached"), &server.conf, &new);
    assert!(changes.len() == 2 && changes.iter().all(|change| change.live), "{changes:?}");
    admin.set_live(&changes).await.unwrap();
    assert_eq!(setting(&server, "maxbytes"), Some((100_u64 << 20).to_string()));
    assert_eq!(setting(&server, "verbosity").as_deref(), Some("1"));
}

#[tokio::test]
async fn a_refusal_comes_in_the_engines_words_and_nothing_is_left_half_done() {
    let server = Server::start(&memcache());
    let mut admin = server.admin().await;
    let change = |directive: &str, new: &str| Change {
        directive: directive.to_owned(),
        old: None,
        new: Some(new.to_owned()),
        live: true,
    };
    match admin.set_live(&[change("verbose", "1"), change("memory-limit", "4")]).await {
        Err(AdminError::RefusedDirective { directive, message, .. }) => {
            assert_eq!(directive, "memory-limit");
            assert!(message.starts_with("MEMLIMIT_TOO_SMALL"), "{message}");
        }
        other => panic!("{other:?}"),
    }
    assert_eq!(setting(&server, "verbosity").as_deref(), Some("0"));
    let smuggled = admin.set_live(&[change("memory-limit", "64\r\nflush_all")]).await;
    assert!(matches!(smuggled, Err(AdminError::RefusedDirective { .. })), "{smuggled:?}");
    let threads = admin.set_live(&[change("threads", "8")]).await;
    assert!(matches!(threads, Err(AdminError::NotLive { .. })), "{threads:?}");
    assert!(admin.probe().await.unwrap().serving, "the connection goes on");
}
