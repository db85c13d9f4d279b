//! What can be listed and watched: which keys an object is made of, and how it is read.

use std::collections::{BTreeMap, BTreeSet};

use futures::{StreamExt as _, TryStreamExt as _, stream};
use overlord_api::{Address, ClusterName, Endpoints, Event, Revision, keys, keys::Key};
use overlord_store::{Error, Fetch, Store};
use serde::Serialize;
use serde_json::Value;

use crate::{
    read::{self, Detail},
    view::{EventView, RevisionView},
};

/// Single-key reads in flight for one listing.
const READS: usize = 16;

/// A set of objects that can be listed and watched.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Collection {
    /// All clusters, in short.
    Clusters,
    /// One cluster in full, by the name of its config key.
    Cluster(String),
    /// The instances of all clusters.
    Instances,
    /// The instances of one cluster.
    InstancesOf(ClusterName),
    /// All tasks.
    Tasks,
    /// One task.
    Task(String),
    /// The events of one cluster.
    Events(ClusterName),
    /// Who serves, of one cluster.
    Endpoints(ClusterName),
    /// The accepted revisions of one cluster.
    Revisions(ClusterName),
}

/// Objects by id, and the store revision from which a watch misses nothing.
#[derive(Debug)]
pub(crate) struct Snapshot {
    pub(crate) objects: BTreeMap<String, Value>,
    pub(crate) revision: i64,
}

impl Collection {
    /// Every key that matters lies below this.
    pub(crate) fn prefix(&self) -> String {
        match self {
            // A cluster is made of keys in two folders, which have only the root in common.
            Self::Clusters | Self::Cluster(_) => keys::ROOT.to_owned(),
            Self::Instances => keys::CLUSTERS.to_owned(),
            Self::InstancesOf(cluster) => keys::instances(cluster),
            Self::Tasks => keys::TASK.to_owned(),
            Self::Task(id) => keys::task(id),
            Self::Events(cluster) => keys::events(cluster),
            Self::Endpoints(cluster) => keys::endpoints(cluster),
            Self::Revisions(cluster) => keys::revisions(cluster),
        }
    }

    /// Which object of this collection a key belongs to.
    pub(crate) fn object_of(&self, key: &str) -> Option<String> {
        match (self, Key::parse(key)) {
            (Self::Clusters, Key::Config(name)) => Some(name.to_owned()),
            (Self::Clusters, Key::Record(name) | Key::Status(name)) => Some(name.to_string()),
            (Self::Cluster(wanted), Key::Config(name)) => (wanted == name).then(|| name.to_owned()),
            (Self::Cluster(wanted), Key::Record(name) | Key::Status(name) | Key::Revision(name, _)) => {
                (wanted == name.as_str()).then(|| name.to_string())
            }
            (Self::Instances, Key::Info(cluster, address)) => Some(instance_id(&cluster, address)),
            (Self::InstancesOf(wanted), Key::Info(cluster, address)) => {
                (*wanted == cluster).then(|| instance_id(&cluster, address))
            }
            (Self::Tasks, Key::Task(id) | Key::TaskStatus(id)) => Some(id.to_owned()),
            (Self::Task(wanted), Key::Task(id) | Key::TaskStatus(id)) => {
                (wanted == id).then(|| id.to_owned())
            }
            (Self::Events(wanted), Key::Event(cluster, id)) => (*wanted == cluster).then(|| id.to_owned()),
            (Self::Endpoints(wanted), Key::Endpoints(cluster)) => {
                (*wanted == cluster).then(|| cluster.to_string())
            }
            (Self::Revisions(wanted), Key::Revision(cluster, n)) => {
                (*wanted == cluster).then(|| n.to_string())
            }
            _ => None,
        }
    }

    /// Reads one object. `None`: it is gone.
    pub(crate) async fn load(&self, store: &dyn Store, id: &str) -> Result<Option<Value>, Error> {
        Ok(match self {
            Self::Clusters => read::cluster(store, id, Detail::Summary).await?.map(value),
            Self::Cluster(_) => read::cluster(store, id, Detail::Full).await?.map(value),
            Self::Instances | Self::InstancesOf(_) => match split_instance_id(id) {
                Some((cluster, address)) => read::instance(store, &cluster, address).await?.map(value),
                None => None,
            },
            Self::Tasks | Self::Task(_) => read::task(store, id).await?.map(value),
            Self::Events(cluster) => {
                let read: read::Stored<Event> =
                    read::json(store, &format!("{}{id}", keys::events(cluster))).await?;
                read.exists()
                    .then(|| value(EventView { id: id.to_owned(), event: read.value, error: read.error }))
            }
            Self::Endpoints(cluster) => {
                let read: read::Stored<Endpoints> = read::json(store, &keys::endpoints(cluster)).await?;
                read.value.map(value)
            }
            Self::Revisions(cluster) => {
                let Ok(number) = id.parse() else { return Ok(None) };
                let read: read::Stored<Revision> =
                    read::json(store, &keys::revision(cluster, number)).await?;
                read.exists().then(|| value(RevisionView { number, revision: read.value, error: read.error }))
            }
        })
    }

    /// Reads all objects.
    pub(crate) async fn load_all(&self, store: &dyn Store) -> Result<Snapshot, Error> {
        let (ids, revision) = self.ids(store).await?;
        // Only keys were listed: the values beside what is wanted (whole server.conf texts) may be large.
        let objects =
            stream::iter(ids)
                .map(|id| async move {
                    self.load(store, &id).await.map(|object| object.map(|object| (id, object)))
                })
                .buffered(READS)
                .try_filter_map(|found| async move { Ok(found) })
                .try_collect()
                .await?;
        Ok(Snapshot { objects, revision })
    }

    async fn ids(&self, store: &dyn Store) -> Result<(BTreeSet<String>, i64), Error> {
        let listings = match self {
            Self::Clusters => {
                let config = store.list(keys::CONFIG, Fetch::KeysOnly).await?;
                vec![config, store.list(keys::CLUSTERS, Fetch::KeysOnly).await?]
            }
            Self::Cluster(name) => vec![store.get(&format!("{}{name}", keys::CONFIG)).await?],
            Self::Task(id) => vec![store.get(&keys::task(id)).await?],
            Self::Instances
            | Self::InstancesOf(_)
            | Self::Tasks
            | Self::Events(_)
            | Self::Endpoints(_)
            | Self::Revisions(_) => vec![store.list(&self.prefix(), Fetch::KeysOnly).await?],
        };
        let revision = listings.iter().map(|listing| listing.revision).min().unwrap_or_default();
        let mut ids: BTreeSet<String> = listings
            .iter()
            .flat_map(|listing| &listing.entries)
            .filter_map(|entry| self.object_of(&entry.key))
            .collect();
        // One cluster or task may be made of keys other than the first one: it is asked for in any case.
        if let Self::Cluster(id) | Self::Task(id) = self {
            ids.insert(id.clone());
        }
        Ok((ids, revision))
    }
}

fn instance_id(cluster: &ClusterName, address: Address) -> String {
    format!("{cluster}/{address}")
}

fn split_instance_id(id: &str) -> Option<(ClusterName, Address)> {
    let (cluster, address) = id.split_once('/')?;
    Some((ClusterName::new(cluster).ok()?, address.parse().ok()?))
}

fn value(view: impl Serialize) -> Value {
    // Views are plain structs with text keys, which always serialize.
    serde_json::to_value(view).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_belongs_to_the_object_it_is_part_of() {
        let orders = ClusterName::new("orders").unwrap();
        let address: Address = "127.0.0.1:20000".parse().unwrap();
        let info = keys::info(&orders, address);
        assert_eq!(Collection::Clusters.object_of("/overlord/config/Bad Name").as_deref(), Some("Bad Name"));
        assert_eq!(Collection::Clusters.object_of(&keys::status(&orders)).as_deref(), Some("orders"));
        assert_eq!(Collection::Clusters.object_of(&info), None);
        assert_eq!(Collection::Instances.object_of(&info).as_deref(), Some("orders/127.0.0.1:20000"));
        assert_eq!(Collection::Cluster("other".into()).object_of(&keys::status(&orders)), None);
        assert_eq!(Collection::Task("a".into()).object_of(&keys::task("ab")), None);
    }
}
