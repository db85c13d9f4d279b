//! Looks at real tasks, for health checks and checks.

use std::{net::IpAddr, os::unix::process::ExitStatusExt as _, process::Stdio, time::Duration};

use overlord_mesos::v1::CommandInfo;
use tokio::{net::TcpStream, process::Command};

use crate::{
    model::{Probe, ProbeKind, ProbeOutcome},
    sessions::Session,
};

/// What an agent's own address on the machine is, besides the one it is reached at.
const LOCAL: IpAddr = IpAddr::V4(std::net::Ipv4Addr::LOCALHOST);
/// How long a check's processes may take to disappear.
const KILL_LIMIT: Duration = Duration::from_secs(5);

/// Looks once. The caller limits the time.
pub(crate) async fn look(
    http: Option<&reqwest::Client>,
    setsid: &[std::ffi::OsString],
    probe: Probe,
) -> ProbeOutcome {
    match &probe.kind {
        ProbeKind::Command(command) => run(setsid, command, &probe).await,
        ProbeKind::Tcp { port } => {
            let connected = TcpStream::connect((probe.address, *port)).await.is_ok()
                || (probe.address != LOCAL && TcpStream::connect((LOCAL, *port)).await.is_ok());
            ProbeOutcome::Connected(connected)
        }
        ProbeKind::Http { scheme, port, path } => {
            let Some(http) = http else { return ProbeOutcome::Silent };
            let slash = if path.starts_with('/') { "" } else { "/" };
            for ip in [probe.address, LOCAL] {
                let url = format!("{scheme}://{ip}:{port}{slash}{path}");
                if let Ok(answer) = http.get(url).send().await {
                    return ProbeOutcome::Status(answer.status().as_u16());
                }
            }
            ProbeOutcome::Silent
        }
    }
}

/// Runs a command beside the task, in its directory, with its environment and the command's own.
async fn run(setsid: &[std::ffi::OsString], command: &CommandInfo, probe: &Probe) -> ProbeOutcome {
    let value = command.value.clone().unwrap_or_default();
    let mut words: Vec<std::ffi::OsString> = setsid.to_vec();
    if command.shell.unwrap_or(true) {
        words.extend(["/bin/sh".into(), "-c".into(), value.into()]);
    } else {
        words.push(value.into());
        words.extend(command.arguments.iter().skip(1).map(Into::into));
    }
    let Some((program, arguments)) = words.split_first() else { return ProbeOutcome::Silent };
    let own = command.environment.iter().flat_map(|environment| &environment.variables);
    let spawned = Command::new(program)
        .args(arguments)
        .env_clear()
        .envs(&probe.environment)
        .envs(own.map(|variable| (variable.name.clone(), variable.value.clone().unwrap_or_default())))
        .current_dir(&probe.directory)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .kill_on_drop(true)
        .spawn();
    let Ok(mut child) = spawned else { return ProbeOutcome::Silent };
    let session = child.id().and_then(Session::of_leader);
    let limit = probe.timeout.saturating_sub(Duration::from_millis(1));
    let ended = tokio::time::timeout(limit, child.wait()).await;
    if let Some(session) = session {
        session.kill(KILL_LIMIT).await;
    }
    match ended {
        Ok(Ok(status)) => status.code().map_or_else(
            // As a shell has it.
            || ProbeOutcome::ExitCode(128 + status.signal().unwrap_or(0)),
            ProbeOutcome::ExitCode,
        ),
        _ => ProbeOutcome::Silent,
    }
}
