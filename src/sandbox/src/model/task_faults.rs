//! What is wrong with a task or an executor by itself, in the words and the order of the master.

use overlord_mesos::v1::{
    CheckInfo, CheckType, CommandInfo, DurationInfo, Environment, ExecutorInfo, ExecutorType, HealthCheck,
    HealthCheckType, Resource, TaskInfo,
};

use super::pool::check;

pub(super) fn id_fault(id: &str) -> Result<(), String> {
    if id.is_empty() {
        return Err("ID must not be empty".to_owned());
    }
    if id.len() > 255 {
        return Err("ID must not be greater than 255 characters".to_owned());
    }
    if id == "." || id == ".." {
        return Err(format!("'{id}' is disallowed"));
    }
    if id.chars().any(|c| c.is_ascii_control() || c == '/' || c == '\\') {
        return Err(format!("'{id}' contains invalid characters"));
    }
    Ok(())
}

/// Everything about a task but its ids, its agent and its executor.
pub(super) fn task_fault(task: &TaskInfo) -> Result<(), String> {
    let negative = |span: Option<DurationInfo>| span.is_some_and(|span| span.nanoseconds < 0);
    if negative(task.kill_policy.and_then(|policy| policy.grace_period)) {
        return Err("Task's 'kill_policy.grace_period' must be non-negative".to_owned());
    }
    if negative(task.max_completion_time) {
        return Err("Task's `max_completion_time` must be non-negative".to_owned());
    }
    if let Some(why) = task.check.as_ref().and_then(check_fault) {
        return Err(format!("Task uses invalid check: {why}"));
    }
    if let Some(why) = task.health_check.as_ref().and_then(health_check_fault) {
        return Err(format!("Task uses invalid health check: {why}"));
    }
    if task.resources.is_empty() {
        return Err("Task uses no resources".to_owned());
    }
    if let Some(why) = check::disks_fault(&task.resources) {
        return Err(format!("Task uses invalid resources: Invalid DiskInfo: {why}"));
    }
    if let Some(why) = check::doubled_volume(&task.resources) {
        return Err(format!("Task uses duplicate persistence ID: {why}"));
    }
    if let Some(why) = mixed_roles(&task.resources) {
        return Err(format!("Invalid task resources: {why}"));
    }
    if let Some(why) = task.command.as_ref().and_then(command_fault) {
        return Err(format!("Task's `CommandInfo` is invalid: {why}"));
    }
    Ok(())
}

/// Everything about an executor but its framework and whether it runs already with another description.
pub(super) fn executor_fault(executor: &ExecutorInfo) -> Result<(), String> {
    match executor.kind {
        Some(ExecutorType::Default) if executor.command.is_some() => {
            return Err("'ExecutorInfo.command' must not be set for 'DEFAULT' executor".to_owned());
        }
        Some(ExecutorType::Custom) if executor.command.is_none() => {
            return Err("'ExecutorInfo.command' must be set for 'CUSTOM' executor".to_owned());
        }
        _ => {}
    }
    id_fault(executor.executor_id.as_str())?;
    if executor.shutdown_grace_period.is_some_and(|grace| grace.nanoseconds < 0) {
        return Err("ExecutorInfo's 'shutdown_grace_period' must be non-negative".to_owned());
    }
    if let Some(why) = executor.command.as_ref().and_then(command_fault) {
        return Err(format!("Executor's `CommandInfo` is invalid: {why}"));
    }
    Ok(())
}

/// The resources of an executor.
pub(super) fn executor_resources_fault(resources: &[Resource]) -> Result<(), String> {
    if let Some(why) = check::disks_fault(resources) {
        return Err(format!("Executor uses invalid resources: Invalid DiskInfo: {why}"));
    }
    if let Some(why) = check::doubled_volume(resources) {
        return Err(format!("Executor uses duplicate persistence ID: {why}"));
    }
    mixed_roles(resources).map_or(Ok(()), |why| Err(format!("Invalid executor resources: {why}")))
}

/// Resources that are allocated to more than one role.
pub(super) fn mixed_roles(resources: &[Resource]) -> Option<String> {
    let mut roles =
        resources.iter().filter_map(|resource| resource.allocation_info.as_ref()?.role.as_deref());
    let first = roles.next()?;
    let other = roles.find(|role| *role != first)?;
    Some(format!(
        "The resources have multiple allocation roles ('{other}' and '{first}') but only one allocation role is \
         allowed"
    ))
}

fn command_fault(command: &CommandInfo) -> Option<String> {
    environment_fault(command.environment.as_ref()?)
}

fn environment_fault(environment: &Environment) -> Option<String> {
    environment.variables.iter().find_map(|variable| {
        let name = &variable.name;
        match variable.kind.as_deref() {
            None | Some("VALUE") if variable.value.is_none() => {
                Some(format!("Environment variable '{name}' of type 'VALUE' must have a value set"))
            }
            Some("SECRET") if variable.value.is_some() => {
                Some(format!("Environment variable '{name}' of type 'SECRET' must not have a value set"))
            }
            None | Some("VALUE" | "SECRET") => None,
            Some(_) => Some("Environment variable of type 'UNKNOWN' is not allowed".to_owned()),
        }
    })
}

/// Says which of several times is negative.
fn negative(times: &[(&str, Option<f64>)]) -> Option<String> {
    let (name, _) = times.iter().find(|(_, seconds)| seconds.is_some_and(|seconds| seconds < 0.0))?;
    Some(format!("Expecting '{name}' to be non-negative"))
}

fn no_value(command: &CommandInfo) -> Option<&'static str> {
    let what = if command.shell.unwrap_or(true) { "'shell command'" } else { "'executable path'" };
    command.value.is_none().then_some(what)
}

fn health_check_fault(check: &HealthCheck) -> Option<String> {
    let missing =
        |field: &str, kind: &str| Some(format!("Expecting '{field}' to be set for {kind} health check"));
    match (check.kind, &check.command, &check.http, &check.tcp) {
        (HealthCheckType::Unknown, ..) => return Some("HealthCheck must specify 'type'".to_owned()),
        (HealthCheckType::Command, None, ..) => return missing("command", "COMMAND"),
        (HealthCheckType::Command, Some(command), ..) => {
            if let Some(what) = no_value(command) {
                return Some(format!("Command health check must contain {what}"));
            }
            if let Some(why) = command_fault(command) {
                return Some(format!("Health check's `CommandInfo` is invalid: {why}"));
            }
        }
        (HealthCheckType::Http, _, None, _) => return missing("http", "HTTP"),
        (HealthCheckType::Http, _, Some(http), _) => {
            if let Some(scheme) = http.scheme.as_deref().filter(|s| !matches!(*s, "http" | "https")) {
                return Some(format!("Unsupported HTTP health check scheme: '{scheme}'"));
            }
            if let Some(path) = http.path.as_deref().filter(|path| !path.starts_with('/')) {
                return Some(format!("The path '{path}' of HTTP health check must start with '/'"));
            }
        }
        (HealthCheckType::Tcp, _, _, None) => return missing("tcp", "TCP"),
        (HealthCheckType::Tcp, ..) => {}
    }
    negative(&[
        ("delay_seconds", check.delay_seconds),
        ("grace_period_seconds", check.grace_period_seconds),
        ("interval_seconds", check.interval_seconds),
        ("timeout_seconds", check.timeout_seconds),
    ])
}

fn check_fault(check: &CheckInfo) -> Option<String> {
    let missing = |field: &str, kind: &str| Some(format!("Expecting '{field}' to be set for {kind} check"));
    match (check.kind, &check.command, &check.http, &check.tcp) {
        (CheckType::Unknown, ..) => return Some("CheckInfo must specify 'type'".to_owned()),
        (CheckType::Command, None, ..) => return missing("command", "COMMAND"),
        (CheckType::Command, Some(command), ..) => {
            if let Some(what) = no_value(&command.command) {
                return Some(format!("Command check must contain {what}"));
            }
            if let Some(why) = command_fault(&command.command) {
                return Some(format!("Check's `CommandInfo` is invalid: {why}"));
            }
        }
        (CheckType::Http, _, None, _) => return missing("http", "HTTP"),
        (CheckType::Http, _, Some(http), _) => {
            if let Some(path) = http.path.as_deref().filter(|path| !path.starts_with('/')) {
                return Some(format!("The path '{path}' of HTTP check must start with '/'"));
            }
        }
        (CheckType::Tcp, _, _, None) => return missing("tcp", "TCP"),
        (CheckType::Tcp, ..) => {}
    }
    negative(&[
        ("delay_seconds", check.delay_seconds),
        ("interval_seconds", check.interval_seconds),
        ("timeout_seconds", check.timeout_seconds),
    ])
}
