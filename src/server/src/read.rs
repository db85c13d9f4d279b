//! Typed reads of single keys. A value that cannot be read is told, never a failure of the request.

use overlord_api::{ClusterName, Info, Record, Revision, Status, keys};
use overlord_store::{Error, Store};
use serde::de::DeserializeOwned;

use crate::view::{ClusterView, InstanceView, TaskView};

/// A key's value, or why it is none.
#[derive(Debug)]
pub(crate) struct Stored<T> {
    pub(crate) value: Option<T>,
    pub(crate) error: Option<String>,
    /// 0 when the key does not exist.
    pub(crate) mod_revision: i64,
}

impl<T: DeserializeOwned> Stored<T> {
    const ABSENT: Self = Self { value: None, error: None, mod_revision: 0 };

    pub(crate) const fn exists(&self) -> bool {
        self.mod_revision != 0
    }

    fn decode(key: &str, bytes: &[u8], mod_revision: i64) -> Self {
        match overlord_api::read_value(bytes) {
            Ok(value) => Self { value: Some(value), error: None, mod_revision },
            Err(error) => Self { value: None, error: Some(format!("{key}: {error}")), mod_revision },
        }
    }

    /// Decodes a listed entry.
    pub(crate) fn of(entry: &overlord_store::Entry) -> Self {
        Self::decode(&entry.key, &entry.value, entry.mod_revision)
    }
}

/// Reads one key as JSON.
pub(crate) async fn json<T: DeserializeOwned>(store: &dyn Store, key: &str) -> Result<Stored<T>, Error> {
    let listing = store.get(key).await?;
    Ok(listing.entries.first().map_or(Stored::ABSENT, Stored::of))
}

/// The text under a config key, and its mod revision.
#[derive(Debug, Clone)]
pub(crate) struct ConfigText {
    pub(crate) text: Result<String, String>,
    pub(crate) mod_revision: i64,
}

/// Reads a config key. The name may be illegal: people write these keys by hand.
pub(crate) async fn config(store: &dyn Store, name: &str) -> Result<Option<ConfigText>, Error> {
    let key = format!("{}{name}", keys::CONFIG);
    let listing = store.get(&key).await?;
    Ok(listing.entries.first().map(|entry| ConfigText {
        text: String::from_utf8(entry.value.to_vec()).map_err(|_| format!("{key}: not UTF-8")),
        mod_revision: entry.mod_revision,
    }))
}

/// How much of a cluster is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Detail {
    /// What a listing shows.
    Summary,
    /// With the texts.
    Full,
}

/// Reads a cluster. `None`: neither declared nor known.
pub(crate) async fn cluster(
    store: &dyn Store,
    name: &str,
    detail: Detail,
) -> Result<Option<ClusterView>, Error> {
    let config = config(store, name).await?;
    let mut view = ClusterView { name: name.to_owned(), ..ClusterView::default() };
    if let Some(config) = &config {
        view.config_revision = Some(config.mod_revision);
        match (&config.text, detail) {
            (Ok(text), Detail::Full) => view.spec = Some(text.clone()),
            (Ok(_), Detail::Summary) => {}
            (Err(error), _) => view.errors.push(error.clone()),
        }
    }
    let name = match ClusterName::new(name) {
        Ok(name) => name,
        Err(error) => {
            view.errors.push(format!("{}{name}: {error}", keys::CONFIG));
            return Ok(config.is_some().then_some(view));
        }
    };
    let record: Stored<Record> = json(store, &keys::record(&name)).await?;
    let status: Stored<Status> = json(store, &keys::status(&name)).await?;
    if config.is_none() && !record.exists() && !status.exists() {
        return Ok(None);
    }
    view.errors.extend(record.error);
    view.errors.extend(status.error);
    view.kind = record.value.as_ref().map(|record| record.kind);
    if view.kind.is_none() {
        view.kind = status.value.as_ref().and_then(|status| status.kind);
    }
    if detail == Detail::Full
        && let Some(record) = record.value.as_ref().filter(|record| record.revision > 0)
    {
        let revision: Stored<Revision> = json(store, &keys::revision(&name, record.revision)).await?;
        view.manifest = revision.value.map(|revision| revision.manifest);
        view.errors.extend(revision.error);
    }
    view.record = record.value;
    view.status = status.value;
    Ok(Some(view))
}

/// Reads an instance. `None`: no info key.
pub(crate) async fn instance(
    store: &dyn Store,
    cluster: &ClusterName,
    address: overlord_api::Address,
) -> Result<Option<InstanceView>, Error> {
    let info: Stored<Info> = json(store, &keys::info(cluster, address)).await?;
    Ok(info.exists().then_some(InstanceView {
        cluster: cluster.to_string(),
        address,
        info: info.value,
        error: info.error,
    }))
}

/// Reads a task. `None`: no such request.
pub(crate) async fn task(store: &dyn Store, id: &str) -> Result<Option<TaskView>, Error> {
    let task: Stored<overlord_api::Task> = json(store, &keys::task(id)).await?;
    let status: Stored<overlord_api::TaskStatus> = json(store, &keys::task_status(id)).await?;
    let exists = task.exists() || status.exists();
    Ok(exists.then(|| TaskView {
        id: id.to_owned(),
        task: task.value,
        status: status.value,
        errors: task.error.into_iter().chain(status.error).collect(),
    }))
}
