//! Paths, limits around every request, and the listener.

use std::{
    error::Error as _,
    net::{IpAddr, SocketAddr},
};

use axum::{
    Json, Router,
    body::Body,
    extract::{DefaultBodyLimit, Path, Query, Request, State, rejection::QueryRejection},
    http::{HeaderMap, HeaderValue, StatusCode, Uri, header},
    middleware::{self, Next},
    response::{IntoResponse as _, Response},
    routing::{get, patch, post},
};
use tokio::{net::TcpListener, time};
use tokio_util::sync::CancellationToken;

use crate::{
    api::ApiState,
    clusters::{self, cluster_name, unknown_cluster},
    collection::Collection,
    controllers,
    error::ApiError,
    extract::WatchQuery,
    program, store, tasks,
    view::{ErrorCode, ListView, VersionView},
    watch,
};

/// How long a body may take to arrive.
const BODY_TIME: time::Duration = time::Duration::from_secs(5);

/// Every path of the API.
pub fn router(state: ApiState) -> Router {
    let v1 = Router::new()
        .route("/clusters", get(list_clusters))
        .route("/clusters/{name}", get(get_cluster).put(clusters::put).delete(clusters::delete))
        .route("/clusters/{name}/instances", get(list_instances_of))
        .route("/clusters/{name}/endpoints", get(get_endpoints))
        .route("/clusters/{name}/events", get(list_events))
        .route("/clusters/{name}/revisions", get(list_revisions))
        .route("/instances", get(list_instances))
        .route("/tasks", get(list_tasks).merge(post(tasks::post)))
        .route("/tasks/{id}", get(get_task).merge(patch(tasks::patch)))
        .layer(middleware::from_fn_with_state(state.clone(), controllers::warn))
        .route("/controllers", get(controllers::list))
        .route("/leader", get(controllers::leader))
        .route("/store", get(store::get))
        .route("/store/accept", post(store::accept))
        .route("/executor/{sha256}/overlord", get(program::get));
    Router::new()
        .nest("/v1", v1)
        .route("/healthz", get(|| async { "ok\n" }))
        .route("/readyz", get(controllers::ready))
        .route("/metrics", get(metrics))
        .route("/version", get(version))
        .fallback(no_such_path)
        .method_not_allowed_fallback(no_such_method)
        .layer(DefaultBodyLimit::max(state.config.max_body))
        .layer(middleware::from_fn_with_state(state.clone(), guard))
        .with_state(state)
}

/// Serves until `shutdown`, then lets requests in flight finish for a moment.
pub async fn serve(
    listener: TcpListener,
    router: Router,
    shutdown: CancellationToken,
) -> std::io::Result<()> {
    /// Requests are short, and watches end with the token.
    const GRACE: time::Duration = time::Duration::from_secs(3);
    let graceful = shutdown.clone();
    let serving =
        axum::serve(listener, router).with_graceful_shutdown(async move { graceful.cancelled().await });
    tokio::select! {
        biased;
        served = async { serving.await } => served,
        () = async { shutdown.cancelled().await; time::sleep(GRACE).await } => Ok(()),
    }
}

/// Who may ask, how many at once, and for how long.
async fn guard(State(state): State<ApiState>, request: Request, next: Next) -> Response {
    if state.config.loopback_only
        && !names_loopback(request.headers(), request.uri())
        && !names(state.config.advertised.as_deref(), request.headers())
    {
        return ApiError::new(
            ErrorCode::Forbidden,
            "this API answers only under the name of the loopback interface",
            "ask for http://127.0.0.1 or http://localhost, or let the controller listen elsewhere ([api] listen)",
        )
        .into_response();
    }
    // Read before there is a permit: slow senders wait for themselves alone.
    let request = match time::timeout(BODY_TIME, whole(request, state.config.max_body)).await {
        Ok(Ok(request)) => request,
        Ok(Err(refused)) => return refused.into_response(),
        Err(_) => {
            return ApiError::new(ErrorCode::Timeout, "the body did not arrive in time", "send it again")
                .into_response();
        }
    };
    let work = async {
        // Whether this process lives is told however busy it is.
        let path = request.uri().path();
        // Downloads have a limit of their own.
        let probe = matches!(path, "/healthz" | "/readyz") || path.starts_with("/v1/executor/");
        // The permit ends with the head of the answer: a watch goes on under a permit of its own.
        let _permit = if probe { None } else { state.requests.acquire().await.ok() };
        next.run(request).await
    };
    time::timeout(state.config.timeout, work).await.unwrap_or_else(|_| {
        ApiError::new(
            ErrorCode::Timeout,
            "the request took too long",
            "check that etcd answers, then try again",
        )
        .into_response()
    })
}

/// The request with its whole body at hand.
async fn whole(request: Request, most: usize) -> Result<Request, ApiError> {
    let (parts, body) = request.into_parts();
    match axum::body::to_bytes(body, most).await {
        Ok(bytes) => Ok(Request::from_parts(parts, Body::from(bytes))),
        Err(error)
            if error
                .source()
                .is_some_and(<dyn std::error::Error>::is::<http_body_util::LengthLimitError>) =>
        {
            Err(ApiError::new(
                ErrorCode::TooLarge,
                "the body is too large",
                "send one manifest of at most 64 KiB",
            ))
        }
        Err(_) => Err(ApiError::new(ErrorCode::BadRequest, "the body broke off", "send it again")),
    }
}

fn names(advertised: Option<&str>, headers: &HeaderMap) -> bool {
    let host = headers.get(header::HOST).and_then(|value| value.to_str().ok());
    advertised.zip(host).is_some_and(|(advertised, host)| host.eq_ignore_ascii_case(advertised))
}

fn names_loopback(headers: &HeaderMap, uri: &Uri) -> bool {
    let host = headers.get(header::HOST).and_then(|value| value.to_str().ok());
    // Without a Host header it is no browser.
    let Some(host) = host.or_else(|| uri.authority().map(axum::http::uri::Authority::as_str)) else {
        return true;
    };
    if let Ok(address) = host.parse::<SocketAddr>() {
        return address.ip().is_loopback();
    }
    let name = match host.rsplit_once(':') {
        Some((name, port)) if port.chars().all(|c| c.is_ascii_digit()) && !name.contains(':') => name,
        _ => host,
    };
    let ip = name.trim_start_matches('[').trim_end_matches(']').parse::<IpAddr>();
    name.eq_ignore_ascii_case("localhost") || ip.is_ok_and(|ip| ip.is_loopback())
}

type WatchResult = Result<Query<WatchQuery>, QueryRejection>;

async fn list(state: ApiState, query: WatchResult, collection: Collection) -> Result<Response, ApiError> {
    if watched(query)? {
        return watching(&state, collection);
    }
    let snapshot = collection.load_all(&*state.store).await?;
    let items: Vec<_> = snapshot.objects.into_values().collect();
    Ok(Json(ListView { items, store_revision: snapshot.revision }).into_response())
}

async fn one(
    state: ApiState,
    query: WatchResult,
    collection: Collection,
    id: &str,
    missing: impl FnOnce() -> ApiError,
) -> Result<Response, ApiError> {
    if watched(query)? {
        return watching(&state, collection);
    }
    let object = collection.load(&*state.store, id).await?.ok_or_else(missing)?;
    Ok(Json(object).into_response())
}

fn watched(query: WatchResult) -> Result<bool, ApiError> {
    match query {
        Ok(Query(query)) => Ok(query.watch),
        Err(error) => {
            Err(ApiError::new(ErrorCode::BadRequest, error.body_text(), "the only parameter is watch=true"))
        }
    }
}

fn watching(state: &ApiState, collection: Collection) -> Result<Response, ApiError> {
    let permit = state.watches.clone().try_acquire_owned().map_err(|_| {
        ApiError::new(ErrorCode::Busy, "too many watches are open", "close some, or ask without watch=true")
    })?;
    let lines = watch::lines(state.store.clone(), collection, state.shutdown.clone(), permit);
    let content_type = HeaderValue::from_static("application/x-ndjson");
    Ok(([(header::CONTENT_TYPE, content_type)], Body::from_stream(lines)).into_response())
}

async fn list_clusters(State(state): State<ApiState>, query: WatchResult) -> Result<Response, ApiError> {
    list(state, query, Collection::Clusters).await
}

async fn get_cluster(
    State(state): State<ApiState>,
    Path(name): Path<String>,
    query: WatchResult,
) -> Result<Response, ApiError> {
    one(state, query, Collection::Cluster(name.clone()), &name, || unknown_cluster(&name)).await
}

async fn list_instances_of(
    State(state): State<ApiState>,
    Path(name): Path<String>,
    query: WatchResult,
) -> Result<Response, ApiError> {
    list(state, query, Collection::InstancesOf(cluster_name(&name)?)).await
}

async fn get_endpoints(
    State(state): State<ApiState>,
    Path(name): Path<String>,
    query: WatchResult,
) -> Result<Response, ApiError> {
    let missing = || {
        ApiError::not_found(
            format!("no endpoints of {name:?} are published"),
            format!("`overlord describe cluster {name}` tells how far it is"),
        )
    };
    one(state, query, Collection::Endpoints(cluster_name(&name)?), &name, missing).await
}

async fn list_events(
    State(state): State<ApiState>,
    Path(name): Path<String>,
    query: WatchResult,
) -> Result<Response, ApiError> {
    list(state, query, Collection::Events(cluster_name(&name)?)).await
}

async fn list_revisions(
    State(state): State<ApiState>,
    Path(name): Path<String>,
    query: WatchResult,
) -> Result<Response, ApiError> {
    list(state, query, Collection::Revisions(cluster_name(&name)?)).await
}

async fn list_instances(State(state): State<ApiState>, query: WatchResult) -> Result<Response, ApiError> {
    list(state, query, Collection::Instances).await
}

async fn list_tasks(State(state): State<ApiState>, query: WatchResult) -> Result<Response, ApiError> {
    list(state, query, Collection::Tasks).await
}

async fn get_task(
    State(state): State<ApiState>,
    Path(id): Path<String>,
    query: WatchResult,
) -> Result<Response, ApiError> {
    tasks::check_id(&id)?;
    one(state, query, Collection::Task(id.clone()), &id, || tasks::unknown_task(&id)).await
}

async fn version(State(state): State<ApiState>) -> Json<VersionView> {
    Json(VersionView {
        version: env!("CARGO_PKG_VERSION").to_owned(),
        api: "v1".to_owned(),
        engines: state.catalogue,
    })
}

async fn metrics(State(state): State<ApiState>) -> Result<Response, ApiError> {
    let mut text = String::new();
    prometheus_client::encoding::text::encode(&mut text, &state.registry)
        .map_err(|_| ApiError::new(ErrorCode::Internal, "the metrics cannot be written", "report this"))?;
    let content_type = HeaderValue::from_static("application/openmetrics-text; version=1.0.0; charset=utf-8");
    Ok((StatusCode::OK, [(header::CONTENT_TYPE, content_type)], text).into_response())
}

async fn no_such_path(uri: Uri) -> ApiError {
    ApiError::not_found(format!("there is nothing at {}", uri.path()), "the API begins at /v1/clusters")
}

async fn no_such_method(uri: Uri) -> ApiError {
    ApiError::new(ErrorCode::MethodNotAllowed, format!("{} does not take that method", uri.path()), "")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_names_of_this_machine_are_loopback() {
        let loopback = |host: &'static str| {
            let mut headers = HeaderMap::new();
            headers.insert(header::HOST, HeaderValue::from_static(host));
            names_loopback(&headers, &Uri::from_static("/"))
        };
        for good in
            ["127.0.0.1", "127.0.0.1:8880", "localhost", "localhost:1", "[::1]:8880", "[::1]", "LOCALHOST:80"]
        {
            assert!(loopback(good), "{good}");
        }
        for bad in [
            "evil.example",
            "evil.example:8880",
            "127.0.0.1.evil.example",
            "10.0.0.1:8880",
            "localhost.evil:1",
        ] {
            assert!(!loopback(bad), "{bad}");
        }
        assert!(names_loopback(&HeaderMap::new(), &Uri::from_static("/")));
    }
}
