//! Asking for tasks, and steering them.

use axum::{
    Json,
    extract::{Path, State},
    http::{HeaderMap, StatusCode},
};
use jiff::Timestamp;
use overlord_api::{ClusterName, MAX_TASK_ID, PARAM_PROMOTE, REASON_CANARY, Record, Task, TaskKind, keys};
use overlord_store::{Committed, Compare, Txn};

use crate::{
    api::ApiState,
    clusters::{encode, refuse_protected, unknown_cluster},
    error::ApiError,
    extract::{JsonBody, requested_by},
    read,
    view::{ErrorCode, TaskPatch, TaskView},
};

/// Attempts of a compare-and-swap.
const ATTEMPTS: usize = 4;

/// `<cluster>.<kind>.<time>`: sorts by time within a cluster; unique because it is put only where nothing is.
pub(crate) fn task_id(cluster: &ClusterName, kind: TaskKind, now: Timestamp) -> String {
    format!("{cluster}.{kind}.{}", now.as_millisecond())
}

/// `POST /v1/tasks`
pub(crate) async fn post(
    State(state): State<ApiState>,
    headers: HeaderMap,
    JsonBody(mut task): JsonBody<Task>,
) -> Result<(StatusCode, Json<TaskView>), ApiError> {
    let config = read::config(&*state.store, task.cluster.as_str()).await?;
    let record: read::Stored<Record> = read::json(&*state.store, &keys::record(&task.cluster)).await?;
    if config.is_none() && !record.exists() {
        return Err(unknown_cluster(task.cluster.as_str()));
    }
    if task.kind == TaskKind::Destroy {
        refuse_protected(&state, &task.cluster, config.as_ref()).await?;
    }
    let now = (state.now)();
    task.requested_at = Some(now);
    if task.requested_by.is_empty() {
        task.requested_by = requested_by(&headers);
    }
    let id = task_id(&task.cluster, task.kind, now);
    let key = keys::task(&id);
    let txn = Txn::unfenced().when(Compare::Absent(key.clone())).put(key, encode(&task)?);
    match state.store.commit(txn).await? {
        Committed::Yes(_) => {
            let view = TaskView { id, task: Some(task), status: None, errors: Vec::new() };
            Ok((StatusCode::CREATED, Json(view)))
        }
        Committed::No(_) => Err(ApiError::new(
            ErrorCode::Conflict,
            "the same was asked for in the same millisecond",
            "try again",
        )),
    }
}

/// `PATCH /v1/tasks/{id}`
pub(crate) async fn patch(
    State(state): State<ApiState>,
    Path(id): Path<String>,
    JsonBody(patch): JsonBody<TaskPatch>,
) -> Result<Json<TaskView>, ApiError> {
    check_id(&id)?;
    let key = keys::task(&id);
    for _ in 0..ATTEMPTS {
        let read: read::Stored<Task> = read::json(&*state.store, &key).await?;
        let view = read::task(&*state.store, &id).await?.ok_or_else(|| unknown_task(&id))?;
        let Some(mut task) = read.value else {
            return Err(ApiError::new(
                ErrorCode::Conflict,
                format!("task {id} cannot be read: {}", view.errors.join("; ")),
                format!("correct or delete {key} in etcd"),
            ));
        };
        if let Some(status) = view.status.as_ref().filter(|status| status.state.is_terminal()) {
            return Err(ApiError::new(
                ErrorCode::Conflict,
                format!("task {id} is {} and will not change any more", status.state),
                "`overlord get tasks` lists those that run",
            ));
        }
        // Only what waits at its canary is let past it: a task paused before is merely resumed.
        let at_canary = view.status.as_ref().is_some_and(|status| status.error.starts_with(REASON_CANARY));
        let promotes = patch.promote == Some(true)
            && at_canary
            && task.params.get(PARAM_PROMOTE).is_none_or(|is| is != "true");
        if task.desired == patch.desired && !promotes {
            return Ok(Json(view));
        }
        task.desired = patch.desired;
        if promotes {
            task.params.insert(PARAM_PROMOTE.to_owned(), "true".to_owned());
        }
        let txn = Txn::unfenced()
            .when(Compare::ModRevision(key.clone(), read.mod_revision))
            .put(key.clone(), encode(&task)?);
        if let Committed::Yes(_) = state.store.commit(txn).await? {
            return Ok(Json(TaskView { task: Some(task), ..view }));
        }
    }
    Err(ApiError::new(ErrorCode::Conflict, format!("somebody else keeps changing task {id}"), "try again"))
}

/// A task id from a path, so that it names one key and no other.
pub(crate) fn check_id(id: &str) -> Result<(), ApiError> {
    let legal = !id.is_empty()
        && id.len() <= MAX_TASK_ID
        && id.chars().all(|c| matches!(c, 'a'..='z' | '0'..='9' | '-' | '.' | '_'));
    if legal { Ok(()) } else { Err(unknown_task(id)) }
}

pub(crate) fn unknown_task(id: &str) -> ApiError {
    ApiError::not_found(format!("there is no task {id:?}"), "`overlord get tasks` lists those there are")
}
