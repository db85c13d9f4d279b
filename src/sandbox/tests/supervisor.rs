//! The supervisor with real processes: kill -9 of its parent leaves nothing behind.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "helpers of tests")]

use std::{
    io::{BufRead as _, BufReader},
    process::{Command, Stdio},
    time::Duration,
};

use overlord_sandbox::Session;

/// Waits until nothing of the session is left.
async fn gone(session: Session) -> bool {
    for _ in 0..2000 {
        if !session.is_alive() {
            return true;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    false
}

#[tokio::test]
async fn a_sandbox_killed_with_9_leaves_none_of_its_sessions() {
    let mut helper = Command::new(env!("CARGO_BIN_EXE_overlord-sandbox-test-helper"))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut line = String::new();
    BufReader::new(helper.stdout.take().unwrap()).read_line(&mut line).unwrap();
    let numbers: Vec<u64> = line.split_whitespace().map(|n| n.parse().unwrap()).collect();
    let sessions: Vec<Session> = numbers
        .chunks(2)
        .map(|pair| Session { leader: u32::try_from(pair[0]).unwrap(), started: pair[1] })
        .collect();
    assert_eq!(sessions.len(), 3);
    assert!(sessions.iter().all(Session::is_alive));
    helper.kill().unwrap();
    helper.wait().unwrap();
    let ended = (gone(sessions[0]).await, gone(sessions[1]).await);
    let spared = sessions[2].is_alive();
    // Taken out of supervision, so it is this test's to end.
    sessions[2].kill(Duration::from_secs(10)).await;
    assert_eq!(ended, (true, true));
    assert!(spared, "a session that was removed is not the supervisor's");
}
