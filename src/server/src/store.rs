//! `/v1/store`: whether the controllers believe the store, and the word of a person that they shall.

use std::collections::BTreeSet;

use axum::{Json, extract::State};
use overlord_api::{
    Leader, StoreWentBack,
    keys::{self, Key},
};
use overlord_store::{Committed, Compare, Fetch, Txn};

use crate::{
    api::ApiState,
    controllers::{PATIENCE, ask},
    error::ApiError,
    extract::JsonBody,
    read::{self, Stored},
    view::{ErrorCode, StoreAccept, StoreView},
};

/// `GET /v1/store`
pub(crate) async fn get(State(state): State<ApiState>) -> Result<Json<StoreView>, ApiError> {
    view(&state).await.map(Json)
}

/// `POST /v1/store/accept`
pub(crate) async fn accept(
    State(state): State<ApiState>,
    JsonBody(wish): JsonBody<StoreAccept>,
) -> Result<Json<StoreView>, ApiError> {
    let seen = state.store.get(keys::GENERATION).await?;
    let seen = seen.entries.first().map(|entry| entry.mod_revision);
    let view = view(&state).await?;
    let conflict =
        |message: String| ApiError::new(ErrorCode::Conflict, message, "`overlord store status` shows it");
    let Some(next) = view.next_generation else {
        return Err(conflict(String::from(
            "the controllers believe etcd as it is: there is nothing to accept",
        )));
    };
    if view.generation >= next {
        let already =
            format!("etcd is accepted as generation {} already: the controllers go on", view.generation);
        return Err(conflict(already));
    }
    if wish.generation != next {
        return Err(conflict(format!(
            "etcd can be accepted as generation {next}, and not as {}: something changed since it was looked at",
            wish.generation
        )));
    }
    let unchanged = match seen {
        Some(revision) => Compare::ModRevision(keys::GENERATION.to_owned(), revision),
        None => Compare::Absent(keys::GENERATION.to_owned()),
    };
    let txn = Txn::unfenced().when(unchanged).put(keys::GENERATION, next.to_string());
    match state.store.commit(txn).await? {
        Committed::Yes(revision) => Ok(Json(StoreView { generation: next, revision, ..view })),
        Committed::No(_) => Err(conflict(String::from("somebody else accepts etcd at this moment"))),
    }
}

async fn view(state: &ApiState) -> Result<StoreView, ApiError> {
    let went_back = went_back(state).await?;
    let config = state.store.list(keys::CONFIG, Fetch::KeysOnly).await?;
    let clusters = state.store.list(keys::CLUSTERS, Fetch::KeysOnly).await?;
    let listing = state.store.get(keys::GENERATION).await?;
    let text = listing.entries.first().map(|entry| String::from_utf8_lossy(&entry.value).trim().to_owned());
    let declared: BTreeSet<String> = (config.entries.iter())
        .filter_map(|entry| entry.key.strip_prefix(keys::CONFIG))
        .map(str::to_owned)
        .collect();
    let recorded = clusters.entries.iter().filter_map(|entry| match Key::parse(&entry.key) {
        Key::Record(cluster) => Some(cluster.to_string()),
        _ => None,
    });
    let undeclared = recorded.filter(|cluster| !declared.contains(cluster)).collect();
    Ok(StoreView {
        generation: text.and_then(|text| text.parse().ok()).unwrap_or(0),
        revision: listing.revision,
        went_back,
        next_generation: went_back.map(|back| back.known.generation + 1),
        declared: declared.into_iter().collect(),
        undeclared,
    })
}

/// What this controller knows, or else the leader: it alone hears of executors.
async fn went_back(state: &ApiState) -> Result<Option<StoreWentBack>, ApiError> {
    let own = state.stands.as_ref().map(|stands| stands());
    if let Some(back) = own.as_ref().and_then(|own| own.store_went_back) {
        return Ok(Some(back));
    }
    let leader: Stored<Leader> = read::json(&*state.store, keys::LEADER).await?;
    match (own, leader.value) {
        (Some(own), Some(leader)) if own.id != leader.id => {
            Ok(ask(&leader, &own.id, PATIENCE).await?.store_went_back)
        }
        _ => Ok(None),
    }
}
