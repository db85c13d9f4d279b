//! The executor on a real redis-server.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "helpers of tests")]

mod common;

use std::{fs, os::unix::fs::PermissionsExt as _, path::Path};

use common::{TASK, World, is_alive, redis_conf, signal};
use overlord_api::{Kind, OnDisk, State};
use overlord_executor::Meta;
use overlord_mesos::v1::TaskState;
use rustix::process::Signal;

fn world(more: &str) -> World {
    World::new(Kind::Redis, |address| redis_conf(address, more))
}

#[tokio::test]
async fn it_starts_serves_and_is_killed_without_a_trace() {
    let mut world = world("");
    world.launch();
    let starting = world.update("starting", |state, _| state == TaskState::Starting).await;
    assert_eq!(starting.state, State::Staging);
    let running = world.running().await;
    assert_eq!((running.config, running.restart, running.restarts), (1, 0, 0));
    assert_eq!((running.role.as_deref(), running.message.as_str()), (Some("single"), ""));
    assert!(world.ask("PING").await.starts_with("+PONG"));

    let dir = world.dir();
    let pid: u32 = fs::read_to_string(dir.join("redis.pid")).unwrap().trim().parse().unwrap();
    assert_eq!(Some(pid), running.pid);
    let meta: Meta = toml::from_str(&fs::read_to_string(dir.join("meta.toml")).unwrap()).unwrap();
    assert_eq!((meta.cluster.as_str(), meta.mesos_task_id.as_str()), ("orders", TASK));
    assert_eq!(
        meta.start.last().map(String::as_str),
        dir.canonicalize().unwrap().join("redis.conf").to_str()
    );
    let mode = |path: &str| fs::metadata(dir.join(path)).unwrap().permissions().mode() & 0o7777;
    assert_eq!(mode("."), 0o755);
    for file in ["redis.conf", "meta.toml", "redis.pid", "console.log"] {
        assert_eq!(mode(file), 0o644, "{file}");
    }
    assert!(fs::read_to_string(dir.join("console.log")).unwrap().contains("Ready to accept connections"));
    assert!(world.root.path().join("var/overlord/tmp").join(TASK).is_dir());

    *world.keys.0.lock().unwrap() = None;
    world.agent.kill(TASK);
    world
        .update("killing", |state, report| state == TaskState::Killing && report.state == State::Draining)
        .await;
    world.update("killed", |state, report| state == TaskState::Killed && report.state == State::Gone).await;
    world.ended().await;
    assert!(!is_alive(pid));
    assert!(!dir.exists());
    assert!(!world.root.path().join("var/overlord/tmp").join(TASK).exists());
}

#[tokio::test]
async fn a_killed_server_serves_again_in_the_same_task() {
    let mut world = world("");
    world.launch();
    let first = world.running().await;
    signal(first.pid.unwrap(), Signal::KILL);
    let restarting = world.update("restarting", |_, report| report.state == State::Restarting).await;
    assert_eq!(restarting.message, "was killed by signal 9 (SIGKILL)");
    let second = world.running().await;
    assert_eq!(second.restarts, 1);
    assert_ne!(second.pid, first.pid);
    assert!(world.ask("PING").await.starts_with("+PONG"));
}

#[tokio::test]
async fn files_that_were_lost_or_damaged_are_made_again_before_a_start_in_place() {
    let mut world = world("");
    world.launch();
    let mut running = world.running().await;
    let conf = fs::read(world.dir().join("redis.conf")).unwrap();
    let damages: [fn(&Path); 2] = [
        |dir| fs::remove_dir_all(dir).unwrap(),
        |dir| fs::write(dir.join("redis.conf"), "bogus directive\n").unwrap(),
    ];
    for (n, damage) in damages.iter().enumerate() {
        damage(&world.dir());
        signal(running.pid.unwrap(), Signal::KILL);
        world.update("restarting", |_, report| report.state == State::Restarting).await;
        running = world.running().await;
        assert_eq!(running.restarts, u32::try_from(n).unwrap() + 1);
        assert_eq!(fs::read(world.dir().join("redis.conf")).unwrap(), conf);
        assert!(world.dir().join("meta.toml").exists());
    }
}

#[tokio::test]
async fn a_bad_directive_is_reported_in_the_servers_words() {
    let mut world = world("bogus yes\n");
    world.launch();
    let first = world.update("the reason", |_, report| !report.message.is_empty()).await;
    assert!(first.message.starts_with("exited with status 1 at start: "), "{}", first.message);
    for words in ["FATAL CONFIG FILE ERROR", "bogus yes", "Bad directive"] {
        assert!(first.message.contains(words), "{}", first.message);
    }
    let message = world.failed().await;
    assert!(message.starts_with("the server ended 3 times in a row"), "{message}");
    world.ended().await;
    assert!(world.dir().join("console.log").exists());
}

#[tokio::test]
async fn whoever_has_the_port_is_named() {
    let mut world = world("");
    let _listener = std::net::TcpListener::bind(world.address.socket()).unwrap();
    world.launch();
    let message = world.failed().await;
    let name = fs::read_to_string("/proc/self/comm").unwrap();
    assert_eq!(message, format!("port 20001 is taken by pid {} ({})", std::process::id(), name.trim()));
    world.ended().await;
}

#[tokio::test]
async fn a_missing_binary_is_named_with_what_to_do() {
    let mut world = world("");
    fs::remove_file(world.binary()).unwrap();
    world.launch();
    let message = world.failed().await;
    assert!(message.contains("lib/redis/7.0.15/bin/redis-server is missing"), "{message}");
    assert!(message.contains("engine catalogue"), "{message}");
}

#[tokio::test]
async fn a_live_directive_changes_server_and_file_without_a_restart() {
    let mut world = world("maxmemory-policy noeviction\n");
    world.launch();
    let before = world.running().await;
    let conf = redis_conf(world.address, "maxmemory-policy allkeys-lru\n");
    world.order(|keys| {
        keys.server_conf.clone_from(&conf);
        keys.info.desired.config = 2;
    });
    let after = world.update("config 2", |_, report| report.config == 2).await;
    assert_eq!((after.pid, after.restart_needed, after.config_refused), (before.pid, false, None));
    assert!(world.ask("CONFIG GET maxmemory-policy").await.contains("allkeys-lru"));
    assert_eq!(fs::read_to_string(world.dir().join("redis.conf")).unwrap(), conf);
}

#[tokio::test]
async fn a_refused_directive_leaves_everything_as_it_was() {
    let mut world = world("hz 20\nmaxmemory-policy noeviction\n");
    world.launch();
    let before = world.running().await;
    world.order(|keys| {
        keys.server_conf = redis_conf(world.address, "hz 30\nmaxmemory-policy nonsense\n");
        keys.info.desired.config = 2;
    });
    let after = world.update("the refusal", |_, report| report.config_refused == Some(2)).await;
    assert_eq!((after.config, after.state, after.pid), (1, State::Running, before.pid));
    assert!(after.message.contains("maxmemory-policy"), "{}", after.message);
    assert!(world.ask("CONFIG GET hz").await.contains("20"));
    let file = fs::read_to_string(world.dir().join("redis.conf")).unwrap();
    assert!(file.contains("hz 20") && !file.contains("nonsense"), "{file}");
}

#[tokio::test]
async fn the_rest_waits_for_an_ordered_restart() {
    let mut world = world("databases 16\n");
    world.launch();
    let before = world.running().await;
    world.order(|keys| {
        keys.server_conf = redis_conf(world.address, "databases 4\n");
        keys.info.desired.config = 2;
    });
    let waiting = world.update("restart needed", |_, report| report.restart_needed).await;
    assert_eq!((waiting.config, waiting.pid), (2, before.pid));
    world.order(|keys| keys.info.desired.restart = 1);
    world.update("restarting", |_, report| report.state == State::Restarting).await;
    let after = world.running().await;
    assert_eq!((after.restart, after.restart_needed, after.restarts), (1, false, 0));
    assert_ne!(after.pid, before.pid);
    assert!(world.ask("CONFIG GET databases").await.contains("\n4\r"));
}

#[tokio::test]
async fn a_plain_kill_keeps_the_data_for_the_next_task_of_the_same_incarnation() {
    let mut world = world("save 3600 1\n");
    world.launch();
    world.running().await;
    assert!(world.ask("SET key value").await.starts_with("+OK"));
    world.agent.kill(TASK);
    world.update("killed", |state, _| state == TaskState::Killed).await;
    world.ended().await;
    assert!(world.dir().join("dump.rdb").exists());

    world.abort_executor().await;
    world.change(|keys| keys.info.mesos_task_id = "01234567.0.0.2".to_owned());
    world.start_executor();
    world.agent.launch("01234567.0.0.2", "orders", world.address);
    world.running().await;
    assert!(world.ask("GET key").await.contains("value"));
}

#[tokio::test]
async fn the_data_of_another_incarnation_is_moved_aside() {
    let mut world = world("save 3600 1\n");
    world.launch();
    world.running().await;
    assert!(world.ask("SET key value").await.starts_with("+OK"));
    world.agent.kill(TASK);
    world.ended().await;
    world.abort_executor().await;
    world.change(|keys| keys.info.incarnation = 1);
    world.launch();
    world.running().await;
    assert!(world.ask("GET key").await.starts_with("$-1"));
    let aside: Vec<_> = fs::read_dir(world.root.path().join("redis"))
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.file_name().unwrap().to_str().unwrap().starts_with("20001.01234567."))
        .collect();
    assert!(aside.len() == 1 && aside[0].join("dump.rdb").exists(), "{aside:?}");
}

#[tokio::test]
async fn a_retained_directory_is_moved_aside_in_the_end() {
    let mut world = world("");
    world.change(|keys| keys.info.on_disk = OnDisk::Retain);
    world.launch();
    world.running().await;
    world.change(|keys| keys.info.desired.state = State::Gone);
    world.agent.kill(TASK);
    world.update("killed", |state, _| state == TaskState::Killed).await;
    world.ended().await;
    assert!(!world.dir().exists());
    let kept = fs::read_dir(world.root.path().join("redis")).unwrap().map(|entry| entry.unwrap().file_name());
    assert!(kept.into_iter().any(|name| name.to_str().unwrap().starts_with("20001.01234567.")));
}

#[tokio::test]
async fn a_server_left_by_a_killed_executor_is_stopped_first() {
    let mut world = world("save 3600 1\n");
    world.launch();
    let first = world.running().await;
    assert!(world.ask("SET key value").await.starts_with("+OK"));
    world.abort_executor().await;
    assert!(is_alive(first.pid.unwrap()), "a server outlives its executor");
    world.change(|keys| keys.info.mesos_task_id = "01234567.0.0.2".to_owned());
    world.start_executor();
    world.agent.launch("01234567.0.0.2", "orders", world.address);
    let second = world.running().await;
    assert_ne!(second.pid, first.pid);
    assert!(!is_alive(first.pid.unwrap()));
    assert!(world.ask("GET key").await.contains("value"), "it was stopped in order, and saved");
}

#[tokio::test]
async fn a_crash_loop_ends_the_task_with_status_and_last_words() {
    let mut world = world("");
    world.script("#!/bin/sh\necho starting\necho no more cheese >&2\nexit 3\n");
    world.launch();
    let message = world.failed().await;
    assert_eq!(
        message,
        "the server ended 3 times in a row; the last one exited with status 3 at start: starting / no more cheese"
    );
    world.ended().await;
}

#[tokio::test]
async fn a_server_that_ignores_sigterm_is_killed_with_its_children() {
    let mut world = world("");
    world.limits.grace = std::time::Duration::from_millis(200);
    // redis as a child of a shell that is deaf: the whole group has to go.
    world.script("#!/bin/sh\ntrap '' TERM\n/usr/bin/redis-server \"$@\" &\nwhile :; do wait; done\n");
    world.launch();
    let pid = world.running().await.pid.unwrap();
    let answer = world.ask("INFO server").await;
    let redis = answer.lines().find_map(|line| line.strip_prefix("process_id:")).unwrap();
    let redis: u32 = redis.trim().parse().unwrap();
    assert_ne!(redis, pid);
    world.agent.kill(TASK);
    let killed = world.update("killed", |state, _| state == TaskState::Killed).await;
    assert_eq!(killed.message, "did not stop in time and was killed");
    world.ended().await;
    assert!(!is_alive(pid) && !is_alive(redis));
}
