//! The tables, the rendered texts and the client, held to the redis-server that is installed.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a helper that fails fails its test")]

mod support;

use std::{collections::BTreeMap, net::TcpListener, time::Duration};

use overlord_api::{Address, Kind, Persistence};
use overlord_engines::{AdminError, Change, Scope, ServerConf, connect, diff, fence, redis_directives};
use tokio::net::TcpSocket;

use support::{Input, Server, TIMEOUT, golden, installed, patiently, release_of};

fn release() -> (u8, u8) {
    release_of(&installed("redis-server"))
}

fn redis() -> Input {
    Input::new(Kind::Redis, &installed("redis-server"))
}

fn change(directive: &str, new: Option<&str>) -> Change {
    Change { directive: directive.to_owned(), old: None, new: new.map(str::to_owned), live: true }
}

/// What the server has of each directive.
fn values(server: &Server) -> BTreeMap<String, String> {
    let all = server.cli(&["CONFIG", "GET", "*"]);
    let lines: Vec<&str> = all.split('\n').collect();
    lines.chunks(2).map(|pair| (pair[0].to_owned(), pair.get(1).copied().unwrap_or("").to_owned())).collect()
}

/// Whether two values are one to the table.
fn same(kind: Kind, name: &str, one: &str, other: &str) -> bool {
    let conf = |value: &str| ServerConf::parse(&format!("{name} \"{value}\"\n")).unwrap();
    diff(kind, &installed("redis-server"), &conf(one), &conf(other)).is_empty()
}

#[test]
fn each_directive_of_the_table_is_as_the_server_has_it() {
    // Without a configuration of ours: its own defaults.
    let (server, release) =
        (Server::start(&Input::new(Kind::RedisCluster, &installed("redis-server"))), release());
    let values = values(&server);
    let rows: Vec<_> = redis_directives()
        .iter()
        .filter(|row| row.is_in(release))
        .flat_map(|row| {
            // A newer spelling is known beside the older one, from its release on.
            let older = row.formerly.map(|(older, _)| (row, older));
            [Some((row, row.spelling(release))), older.filter(|(row, older)| row.spelling(release) != *older)]
        })
        .flatten()
        .collect();
    let sets: Vec<String> = rows
        .iter()
        .map(|(_, name)| format!("CONFIG SET {name} \"{}\"", values.get(*name).map_or("", String::as_str)))
        .collect();
    let answers = server.cli_script(&sets);
    assert_eq!(answers.len(), rows.len(), "{answers:#?}");
    let mut wrong = Vec::new();
    for ((row, name), answer) in rows.into_iter().zip(answers) {
        let Some(value) = values.get(name) else {
            wrong.push(format!("{name} is unknown"));
            continue;
        };
        if (answer == "OK") != row.live {
            wrong.push(format!("{name} is live: {}, CONFIG SET says {answer}", row.live));
        }
        let rendered =
            matches!(name, "maxmemory" | "rdb-del-sync-files" | "repl-diskless-sync-delay" | "databases");
        if !rendered && !same(server.kind, name, value, row.default.unwrap_or_default()) {
            wrong.push(format!("{name} is {value:?} by default, not {:?}", row.default));
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
    assert!(redis_directives().iter().any(|row| row.scope == Scope::RedisCluster));
}

#[tokio::test]
async fn rendered_texts_are_taken_and_in_effect() {
    let version = installed("redis-server");
    for (name, input) in golden() {
        if input.kind == Kind::Memcache || input.version != version {
            continue;
        }
        let server = Server::start(&input);
        let values = values(&server);
        for (directive, value) in server.conf.entries() {
            let actual = values[directive].as_str();
            let own = directive == "dir" && actual == server.dir().path().to_str().unwrap();
            assert!(
                own || same(input.kind, directive, value, actual),
                "{name}: {directive} {value:?} {actual:?}"
            );
        }
        let health = server.admin().await.probe().await.unwrap();
        assert_eq!(health.pid, Some(server.pid()), "{name}");
        match input.kind {
            Kind::RedisCluster => {
                // Alone and without slots the cluster is not ok.
                assert_eq!((health.serving, health.role.as_deref()), (false, Some("master")));
                assert!(health.detail.contains("cluster_state"), "{health:?}");
            }
            _ => assert_eq!((health.serving, health.role.as_deref()), (true, Some("single")), "{health:?}"),
        }
    }
}

#[tokio::test]
async fn a_cluster_node_serves_once_its_slots_are_covered() {
    let server = Server::start(&Input::new(Kind::RedisCluster, &installed("redis-server")));
    let mut admin = server.admin().await;
    assert_eq!(admin.probe().await.unwrap().slots, None);
    let slots: Vec<String> = (0..16_384).map(|slot| slot.to_string()).collect();
    let words: Vec<&str> =
        ["CLUSTER", "ADDSLOTS"].into_iter().chain(slots.iter().map(String::as_str)).collect();
    assert_eq!(server.cli(&words), "OK");
    assert!(patiently(|| server.cli(&["CLUSTER", "INFO"]).contains("cluster_state:ok")));
    let health = admin.probe().await.unwrap();
    assert!(health.serving && health.slots.as_ref().unwrap().starts_with("16384:"), "{health:?}");
    assert_eq!(health.epoch, Some(0));
    // They are read again now and then, at the latest with the tenth probe.
    server.cli(&["CLUSTER", "DELSLOTS", "7"]);
    let mut slots = None;
    for _ in 0..10 {
        slots = admin.probe().await.unwrap().slots;
    }
    assert!(slots.unwrap().starts_with("16383:"));
}

#[tokio::test]
async fn live_changes_are_set_and_read_back() {
    let server = Server::start(&redis().with("hz", "50").with("slave-priority", "7"));
    let mut admin = server.admin().await;
    let mut new = redis()
        .with("maxmemory", "64mb")
        .with("maxmemory-policy", "allkeys-lru")
        .with("notify-keyspace-events", "KEA")
        .with("client-output-buffer-limit", "pubsub 64mb 16mb 90")
        .persistence(Persistence::Aof);
    if release() >= (7, 0) {
        new = new.with("latency-tracking-info-percentiles", "50");
    }
    let new = new.render(server.port, 0);
    let changes = diff(Kind::Redis, &installed("redis-server"), &server.conf, &new);
    assert!(changes.iter().all(|change| change.live), "{changes:?}");
    admin.set_live(&changes).await.unwrap();
    for (name, value) in [
        ("maxmemory", "67108864"),
        ("maxmemory-policy", "allkeys-lru"),
        ("notify-keyspace-events", "AKE"),
        ("appendonly", "yes"),
        // Removed: the engine's defaults again.
        ("hz", "10"),
        ("slave-priority", "100"),
    ] {
        assert_eq!(server.config_get(name).as_deref(), Some(value), "{name}");
    }
    assert!(
        server.config_get("client-output-buffer-limit").unwrap().ends_with("pubsub 67108864 16777216 90")
    );
}

#[tokio::test]
async fn a_refusal_comes_in_the_engines_words_and_nothing_is_left_half_done() {
    let server = Server::start(&redis());
    let mut admin = server.admin().await;
    let changes = [change("hz", Some("99")), change("maxmemory-policy", Some("allkeys-nonsense"))];
    match admin.set_live(&changes).await {
        Err(AdminError::RefusedDirective { directive, value, message, .. }) => {
            assert_eq!((directive.as_str(), value.as_str()), ("maxmemory-policy", "allkeys-nonsense"));
            assert!(message.contains("CONFIG SET"), "{message}");
        }
        other => panic!("{other:?}"),
    }
    assert_eq!(server.config_get("hz").as_deref(), Some("10"));
    assert_eq!(server.config_get("maxmemory-policy").as_deref(), Some("noeviction"));
    let immutable = admin.set_live(&[change("databases", Some("4"))]).await;
    assert!(matches!(immutable, Err(AdminError::RefusedDirective { .. })), "{immutable:?}");
    let not_live = admin.set_live(&[Change { live: false, ..change("hz", Some("20")) }]).await;
    assert!(matches!(not_live, Err(AdminError::NotLive { .. })), "{not_live:?}");
    assert!(admin.probe().await.unwrap().serving, "the connection goes on");
}

#[tokio::test]
async fn keys_of_all_databases_are_counted_and_a_snapshot_makes_them_safe() {
    let mut server = Server::start(&redis().persistence(Persistence::Rdb));
    let mut admin = server.admin().await;
    assert!(admin.persisted().await.unwrap());
    for (db, key) in [("0", "a"), ("0", "b"), ("3", "c")] {
        server.cli(&["-n", db, "SET", key, "1"]);
    }
    assert_eq!(admin.keys().await.unwrap(), 3);
    assert!(!admin.persisted().await.unwrap());
    admin.save().await.unwrap();
    assert!(patiently(|| server.cli(&["INFO", "persistence"]).contains("rdb_changes_since_last_save:0")));
    assert!(patiently(|| server.cli(&["INFO", "persistence"]).contains("rdb_bgsave_in_progress:0")));
    assert!(admin.persisted().await.unwrap());
    server.cli(&["SET", "d", "1"]);
    admin.shutdown(Persistence::Rdb).await.unwrap();
    assert!(server.ended());
    let again = Server::start_with(&redis().persistence(Persistence::Rdb), "", server.dir());
    assert_eq!(again.admin().await.keys().await.unwrap(), 4);
}

#[tokio::test]
async fn a_server_that_loads_or_is_busy_answers_but_does_not_serve() {
    let server = Server::start(&redis().persistence(Persistence::Rdb));
    server.cli(&["EVAL", "for i = 1, 300 do redis.call('SET', i, i) end", "0"]);
    server.cli(&["SAVE"]);
    // Earlier releases cannot be made slow to load.
    if release() >= (7, 0) {
        let slow = "key-load-delay 5000\nloading-process-events-interval-bytes 1024\n";
        let loading = Server::start_with(&redis().persistence(Persistence::Rdb), slow, server.dir());
        let health = loading.admin().await.probe().await.unwrap();
        assert!(health.loading && !health.serving && health.detail.contains("oading"), "{health:?}");
    }

    server.cli(&["CONFIG", "SET", "lua-time-limit", "10"]);
    let mut script = std::process::Command::new("redis-cli")
        .args(["-p", &server.port.to_string(), "EVAL", "while true do end", "0"])
        .spawn()
        .unwrap();
    assert!(patiently(|| server.cli(&["GET", "x"]).starts_with("BUSY")));
    let health = server.admin().await.probe().await.unwrap();
    assert!(!health.serving && health.detail.starts_with("BUSY"), "{health:?}");
    assert_eq!(server.cli(&["SCRIPT", "KILL"]), "OK");
    script.wait().unwrap();
}

#[tokio::test]
async fn a_replica_serves_only_while_its_link_is_up() {
    let master = Server::start(&redis());
    let replica = Server::start(&redis());
    let mut admin = replica.admin().await;
    let command = if release() < (5, 0) { "SLAVEOF" } else { "REPLICAOF" };
    replica.cli(&[command, "127.0.0.1", &support::free_port().to_string()]);
    let health = admin.probe().await.unwrap();
    assert_eq!(
        (health.serving, health.link.as_deref(), health.role.as_deref()),
        (false, Some("down"), Some("slave"))
    );
    master.cli(&["CONFIG", "SET", "repl-diskless-sync-delay", "0"]);
    replica.cli(&[command, "127.0.0.1", &master.port.to_string()]);
    assert!(patiently(|| replica.cli(&["INFO", "replication"]).contains("master_link_status:up")));
    let health = admin.probe().await.unwrap();
    assert_eq!((health.serving, health.link.as_deref()), (true, Some("up")), "{health:?}");
}

#[tokio::test]
async fn a_later_leader_ends_the_connections_of_earlier_ones_and_no_others() {
    let server = Server::start(&redis());
    let address = server.address();
    let join = async |name: &str| connect(Kind::Redis, address, TIMEOUT, Some(name)).await;
    let lead = async |epoch: i64| join(&fence::client_name(epoch)).await;
    let mut first = lead(5).await.unwrap();
    let mut same = lead(5).await.unwrap();
    let mut app = join("overlordish").await.unwrap();
    assert!(first.probe().await.is_ok() && same.probe().await.is_ok());

    let mut second = lead(6).await.unwrap();
    assert!(matches!(first.probe().await, Err(AdminError::Broken { .. })));
    assert!(matches!(first.probe().await, Err(AdminError::Closed { .. })), "never opened again by itself");
    assert!(same.keys().await.is_err());
    assert!(app.probe().await.unwrap().serving && second.probe().await.unwrap().serving);
    match lead(5).await.map(|_| ()) {
        Err(AdminError::Fenced { ours: 5, theirs: 6, .. }) => {}
        other => panic!("{other:?}"),
    }
    assert!(second.probe().await.is_ok());
}

#[tokio::test]
async fn a_server_that_never_answers_is_a_timeout_and_a_closed_port_no_connection() {
    let hung = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = Address::new([127, 0, 0, 1].into(), hung.local_addr().unwrap().port());
    let short = Duration::from_millis(50);
    for kind in Kind::ALL {
        let mut admin = connect(kind, address, short, None).await.unwrap();
        assert!(matches!(admin.probe().await, Err(AdminError::Timeout { .. })), "{kind}");
        assert!(matches!(admin.probe().await, Err(AdminError::Closed { .. })), "{kind}");
    }
    let name = fence::client_name(1);
    let fenced = connect(Kind::Redis, address, short, Some(&name)).await.map(|_| ());
    assert!(matches!(fenced, Err(AdminError::Timeout { .. })), "{fenced:?}");
    // Bound, so that nobody else gets the port, and not listening.
    let closed = TcpSocket::new_v4().unwrap();
    closed.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let address = Address::new([127, 0, 0, 1].into(), closed.local_addr().unwrap().port());
    let refused = connect(Kind::Redis, address, TIMEOUT, None).await.map(|_| ());
    assert!(matches!(refused, Err(AdminError::Connect { .. })), "{refused:?}");
}
