//! Declaring and deleting clusters: validation, then one compare-and-swap on what was read.

use std::sync::Arc;

use axum::{
    Json,
    extract::{Path, State},
    http::{HeaderMap, StatusCode, header},
};
use bytes::Bytes;
use overlord_api::{
    Cluster, ClusterName, Fault, Record, Revision, RuleFault, Rules, Task, TaskDesired, TaskKind,
    check_change, keys, locate, parse_key, parse_revision,
};
use overlord_store::{Committed, Compare, Store, Txn};

use crate::{
    api::ApiState,
    error::ApiError,
    extract::{Body, requested_by},
    read,
    tasks::task_id,
    view::{Applied, ApplyView, DeleteView, ErrorCode, FaultView},
};

/// Attempts of a compare-and-swap when somebody else writes the same key at the same moment.
const ATTEMPTS: usize = 4;

/// `PUT /v1/clusters/{name}`
pub(crate) async fn put(
    State(state): State<ApiState>,
    Path(name): Path<String>,
    headers: HeaderMap,
    Body(text): Body,
) -> Result<(StatusCode, Json<ApplyView>), ApiError> {
    let name = cluster_name(&name)?;
    let wanted = if_match(&headers)?;
    let cluster = Arc::new(validated(&state, &name, text.clone()).await?);
    for _ in 0..ATTEMPTS {
        let current = read::config(&*state.store, name.as_str()).await?;
        let current_revision = current.as_ref().map_or(0, |current| current.mod_revision);
        if let Some(wanted) = wanted
            && wanted != current_revision
        {
            return Err(mismatch(&name, wanted, current_revision));
        }
        let before = match &current {
            Some(current) => parse_in_background(
                Arc::clone(&state.rules),
                &name,
                current.text.clone().unwrap_or_default().into(),
            )
            .await?
            .ok(),
            None => None,
        };
        let accepted = accepted(&*state.store, &name).await?;
        let deleted = matches!(&accepted, Some((record, _)) if record.deletion.is_some());
        // A text that was there before the deletion brings nothing back: only a new revision of its key does.
        if !deleted && before.as_ref() == Some(&*cluster) {
            return Ok((StatusCode::OK, Json(answer(&name, &cluster, Applied::Unchanged, current_revision))));
        }
        refuse_change(accepted, &cluster, &text)?;
        let key = keys::config(&name);
        let compare = match &current {
            Some(current) => Compare::ModRevision(key.clone(), current.mod_revision),
            None => Compare::Absent(key.clone()),
        };
        let txn = Txn::unfenced().when(compare).put(key, text.clone());
        if let Committed::Yes(revision) = state.store.commit(txn).await? {
            let (status, result) = match current {
                Some(_) if !deleted => (StatusCode::OK, Applied::Configured),
                Some(_) | None => (StatusCode::CREATED, Applied::Created),
            };
            tracing::info!(cluster = %name, revision, by = requested_by(&headers), "spec written");
            return Ok((status, Json(answer(&name, &cluster, result, revision))));
        }
    }
    Err(contended(&name))
}

/// A cluster that runs may not become just anything.
fn refuse_change(
    accepted: Option<(Record, Option<Cluster>)>,
    new: &Cluster,
    text: &[u8],
) -> Result<(), ApiError> {
    let refused = match accepted {
        Some((record, _)) if record.deletion.is_some() => return Ok(()),
        Some((_, Some(old))) => check_change(&old, new),
        Some((record, None)) if record.kind != new.spec.shape.kind() => {
            let fault =
                RuleFault::new(format!("cannot change, {} is a {}", new.name, record.kind.manifest_kind()));
            vec![("kind", fault)]
        }
        Some((_, None)) | None => return Ok(()),
    };
    if refused.is_empty() {
        return Ok(());
    }
    // What was validated is UTF-8.
    let text = String::from_utf8_lossy(text);
    let details = refused.into_iter().map(|(path, fault)| fault_view(locate(&text, path, fault))).collect();
    Err(ApiError::invalid(format!("{} cannot be changed like this", new.name), details))
}

/// `DELETE /v1/clusters/{name}`
pub(crate) async fn delete(
    State(state): State<ApiState>,
    Path(name): Path<String>,
    headers: HeaderMap,
) -> Result<(StatusCode, Json<DeleteView>), ApiError> {
    let wanted = if_match(&headers)?;
    // A key with an illegal name never became a cluster: only the key is to be removed.
    let Ok(name) = ClusterName::new(name.as_str()) else { return delete_illegal(&state, &name).await };
    for _ in 0..ATTEMPTS {
        let current = read::config(&*state.store, name.as_str()).await?;
        let current_revision = current.as_ref().map_or(0, |current| current.mod_revision);
        if let Some(wanted) = wanted
            && wanted != current_revision
        {
            return Err(mismatch(&name, wanted, current_revision));
        }
        let record: read::Stored<Record> = read::json(&*state.store, &keys::record(&name)).await?;
        if current.is_none() && !record.exists() {
            return Err(unknown_cluster(name.as_str()));
        }
        let deleting = record.value.as_ref().is_some_and(|record| record.deletion.is_some());
        if deleting && current.is_none() {
            return Ok((StatusCode::ACCEPTED, Json(DeleteView { name: name.to_string(), task: None })));
        }
        if !deleting {
            refuse_protected(&state, &name, current.as_ref()).await?;
        }
        let now = (state.now)();
        let id = task_id(&name, TaskKind::Destroy, now);
        let task = Task {
            version: overlord_api::VALUES_VERSION,
            kind: TaskKind::Destroy,
            cluster: name.clone(),
            params: std::collections::BTreeMap::new(),
            requested_by: requested_by(&headers),
            requested_at: Some(now),
            desired: TaskDesired::Run,
        };
        let config = keys::config(&name);
        let key = keys::task(&id);
        let compare = match &current {
            Some(current) => Compare::ModRevision(config.clone(), current.mod_revision),
            None => Compare::Absent(config.clone()),
        };
        let mut txn = Txn::unfenced().when(compare).delete(config);
        // A key nobody has looked at yet has nothing to destroy, and needs no task.
        let id = record.exists().then_some(id);
        if id.is_some() {
            txn = txn.when(Compare::Absent(key.clone())).put(key, encode(&task)?);
        }
        if let Committed::Yes(revision) = state.store.commit(txn).await? {
            tracing::info!(cluster = %name, revision, by = requested_by(&headers), "delete requested");
            return Ok((StatusCode::ACCEPTED, Json(DeleteView { name: name.to_string(), task: id })));
        }
    }
    Err(contended(&name))
}

async fn delete_illegal(state: &ApiState, name: &str) -> Result<(StatusCode, Json<DeleteView>), ApiError> {
    let Some(current) = read::config(&*state.store, name).await? else { return Err(unknown_cluster(name)) };
    let key = format!("{}{name}", keys::CONFIG);
    let txn = Txn::unfenced().when(Compare::ModRevision(key.clone(), current.mod_revision)).delete(key);
    match state.store.commit(txn).await? {
        Committed::Yes(_) => Ok((StatusCode::OK, Json(DeleteView { name: name.to_owned(), task: None }))),
        Committed::No(_) => {
            Err(ApiError::new(ErrorCode::Conflict, format!("{name:?} was just changed"), "try again"))
        }
    }
}

/// A cluster is deleted only if neither what runs nor what is declared says that it is protected.
pub(crate) async fn refuse_protected(
    state: &ApiState,
    name: &ClusterName,
    current: Option<&read::ConfigText>,
) -> Result<(), ApiError> {
    if let Some(current) = current
        && let Ok(text) = &current.text
        && let Ok(declared) = parse_in_background(Arc::clone(&state.rules), name, text.clone().into()).await?
        && declared.spec.deletion.protected
    {
        return Err(ApiError::new(
            ErrorCode::Protected,
            format!("{name} is protected against deletion"),
            "set spec.deletion.protected to false, apply that, then delete again",
        ));
    }
    match accepted(&*state.store, name).await? {
        Some((record, Some(running))) if running.spec.deletion.protected => Err(ApiError::new(
            ErrorCode::Protected,
            format!("{name} is protected against deletion by its accepted revision {}", record.revision),
            if current.is_some() {
                "wait until the controller has accepted the changed spec, then delete again"
            } else {
                "apply its spec with spec.deletion.protected set to false, then delete again"
            },
        )),
        // What cannot be read is not taken for unprotected.
        Some((record, None)) if record.revision > 0 => Err(ApiError::new(
            ErrorCode::Conflict,
            format!(
                "revision {} of {name} cannot be read, so that nobody can tell whether it is protected",
                record.revision
            ),
            "apply its spec again, wait until it is accepted, then delete again",
        )),
        _ => Ok(()),
    }
}

/// The record and the accepted revision, as far as they can be read.
async fn accepted(
    store: &dyn Store,
    name: &ClusterName,
) -> Result<Option<(Record, Option<Cluster>)>, ApiError> {
    let record: read::Stored<Record> = read::json(store, &keys::record(name)).await?;
    let Some(record) = record.value else { return Ok(None) };
    if record.revision == 0 {
        return Ok(Some((record, None)));
    }
    let revision: read::Stored<Revision> = read::json(store, &keys::revision(name, record.revision)).await?;
    let cluster = revision.value.and_then(|revision| parse_revision(&revision.manifest).ok());
    Ok(Some((record, cluster)))
}

/// Parses off the loop: a hostile text may take a while.
async fn parse_in_background(
    rules: Arc<dyn Rules + Send + Sync>,
    name: &ClusterName,
    text: Bytes,
) -> Result<Result<Cluster, Vec<Fault>>, ApiError> {
    let name = name.clone();
    tokio::task::spawn_blocking(move || parse_key(&name, &text, &*rules)).await.map_err(|_| {
        ApiError::new(
            ErrorCode::Internal,
            "validation of the manifest failed",
            "report this together with the manifest",
        )
    })
}

async fn validated(state: &ApiState, name: &ClusterName, text: Bytes) -> Result<Cluster, ApiError> {
    parse_in_background(Arc::clone(&state.rules), name, text).await?.map_err(|faults| {
        let count = faults.len();
        let plural = if count == 1 { "" } else { "s" };
        ApiError::invalid(
            format!("the manifest of {name} has {count} fault{plural}"),
            faults.into_iter().map(fault_view).collect(),
        )
    })
}

fn fault_view(fault: Fault) -> FaultView {
    FaultView {
        line: fault.line,
        column: fault.column,
        start: fault.span.start,
        end: fault.span.end,
        path: fault.path,
        message: fault.message,
        hint: fault.hint.unwrap_or_default(),
    }
}

fn answer(name: &ClusterName, cluster: &Cluster, result: Applied, config_revision: i64) -> ApplyView {
    ApplyView { name: name.to_string(), kind: cluster.spec.shape.kind(), result, config_revision }
}

pub(crate) fn encode(value: &impl serde::Serialize) -> Result<Vec<u8>, ApiError> {
    serde_json::to_vec(value).map_err(|error| {
        ApiError::new(ErrorCode::Internal, format!("cannot write JSON: {error}"), "report this")
    })
}

/// A name from a path.
pub(crate) fn cluster_name(text: &str) -> Result<ClusterName, ApiError> {
    ClusterName::new(text).map_err(|error| {
        ApiError::new(ErrorCode::BadRequest, format!("{text:?} names no cluster: {error}"), "")
    })
}

pub(crate) fn unknown_cluster(name: &str) -> ApiError {
    ApiError::not_found(
        format!("there is no cluster {name:?}"),
        "`overlord get clusters` lists those there are",
    )
}

fn contended(name: &ClusterName) -> ApiError {
    ApiError::new(
        ErrorCode::Conflict,
        format!("somebody else keeps changing {name} at the same moment"),
        "look at it again, then try again",
    )
}

fn mismatch(name: &ClusterName, wanted: i64, found: i64) -> ApiError {
    ApiError::new(
        ErrorCode::RevisionMismatch,
        format!("{name} is at config revision {found}, not {wanted}: somebody changed it meanwhile"),
        "read it again, merge, and send the new revision",
    )
}

/// `If-Match`: a mod revision, with or without quotes. 0 means that there must be none.
fn if_match(headers: &HeaderMap) -> Result<Option<i64>, ApiError> {
    let Some(value) = headers.get(header::IF_MATCH) else { return Ok(None) };
    value.to_str().ok().and_then(|text| text.trim().trim_matches('"').parse().ok()).map(Some).ok_or_else(
        || {
            ApiError::new(
                ErrorCode::BadRequest,
                "If-Match is no config revision",
                "send the number of configRevision",
            )
        },
    )
}
