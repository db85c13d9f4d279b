//! A node of a redis cluster, asked about its cluster and told its place in it.

use std::time::Duration;

use overlord_api::Address;

use crate::{
    AdminError, Dialler,
    cluster::{NodeId, Replication, View},
    resp::{Reply, Resp},
};

/// One connection to one node. Each call has the timeout given to [`ClusterAdmin::connect`]. After a failure
/// that left the connection in doubt, every further call gives [`AdminError::Closed`]: connect anew.
///
/// A node that loads its data answers with [`AdminError::Loading`], to all but [`ClusterAdmin::replication`].
#[derive(Debug)]
pub struct ClusterAdmin {
    resp: Resp,
}

/// What makes a [`View`].
const VIEW: [&[&str]; 2] = [&["CLUSTER", "NODES"], &["CLUSTER", "INFO"]];

/// What makes a [`Replication`].
const REPLICATION: [&[&str]; 5] = [
    &["INFO", "replication"],
    &["INFO", "server"],
    &["INFO", "stats"],
    &["INFO", "persistence"],
    &["INFO", "keyspace"],
];

impl ClusterAdmin {
    /// Connects over TCP, as [`Dialler::node`] does.
    pub async fn connect(
        address: Address,
        timeout: Duration,
        client_name: Option<&str>,
    ) -> Result<Self, AdminError> {
        Self::reach(&Dialler::TCP, address, timeout, client_name).await
    }

    pub(crate) async fn reach(
        dialler: &Dialler,
        address: Address,
        timeout: Duration,
        client_name: Option<&str>,
    ) -> Result<Self, AdminError> {
        Ok(Self { resp: Resp::connect(dialler, address, timeout, client_name).await? })
    }

    /// Where it is connected to.
    pub const fn address(&self) -> Address {
        self.resp.wire.address
    }

    /// What the node knows of its cluster.
    pub async fn view(&mut self) -> Result<View, AdminError> {
        let texts = self.ask("CLUSTER NODES", &VIEW).await?;
        self.as_view(&texts)
    }

    /// What the node has of the data.
    pub async fn replication(&mut self) -> Result<Replication, AdminError> {
        let texts = self.ask("INFO", &REPLICATION).await?;
        self.as_replication(&texts)
    }

    /// Both in one round trip.
    pub async fn look(&mut self) -> Result<(View, Replication), AdminError> {
        let commands: Vec<&[&str]> = VIEW.into_iter().chain(REPLICATION).collect();
        let texts = self.ask("CLUSTER NODES", &commands).await?;
        let (view, replication) = texts.split_at_checked(VIEW.len()).unwrap_or((&[], &[]));
        Ok((self.as_view(view)?, self.as_replication(replication)?))
    }

    /// Keys in all databases.
    pub async fn keys(&mut self) -> Result<u64, AdminError> {
        Ok(self.replication().await?.keys)
    }

    /// Tells a replica to take over from its master: in agreement with it, or, when it is dead, by `force`. An
    /// answer means that it begins; its view tells when it is done. A master refuses.
    ///
    /// One that was a master in this life may still hold the votes it was elected with, and a failover that is ordered
    /// within two node timeouts of that election is won with them at once, under the epoch of then (redis 7.0). Others
    /// do not take that epoch for a newer one, and a master that is dead cannot object: the slots would be nobody's for
    /// good. So such a one takes a new epoch first.
    pub async fn failover(&mut self, force: bool) -> Result<(), AdminError> {
        if self.replication().await?.syncs_served > 0 {
            self.bump_epoch().await?;
        }
        let command: &[&str] =
            if force { &["CLUSTER", "FAILOVER", "FORCE"] } else { &["CLUSTER", "FAILOVER"] };
        self.order("CLUSTER FAILOVER", command).await
    }

    /// Tells a replica to take over without anybody's vote: by a person's word, where no majority is left to ask.
    pub async fn take_over(&mut self) -> Result<(), AdminError> {
        self.order("CLUSTER FAILOVER", &["CLUSTER", "FAILOVER", "TAKEOVER"]).await
    }

    /// Tells a node to take an epoch for itself that is higher than any it knows of, if its own is not the highest.
    pub async fn bump_epoch(&mut self) -> Result<(), AdminError> {
        self.order("CLUSTER BUMPEPOCH", &["CLUSTER", "BUMPEPOCH"]).await
    }

    /// Introduces a node. An answer means that it begins; doing it again changes nothing.
    pub async fn meet(&mut self, address: Address, bus_port: u16) -> Result<(), AdminError> {
        let (ip, port, bus_port) = (address.ip.to_string(), address.port.to_string(), bus_port.to_string());
        self.order("CLUSTER MEET", &["CLUSTER", "MEET", &ip, &port, &bus_port]).await
    }

    /// Makes the node a replica of `master`, which it must know. A master with slots or keys refuses.
    pub async fn replicate(&mut self, master: &NodeId) -> Result<(), AdminError> {
        self.order("CLUSTER REPLICATE", &["CLUSTER", "REPLICATE", &master.to_string()]).await
    }

    /// Makes the node forget another, and not hear of it from others for 60 s. One that it does not know is
    /// forgotten already. It refuses to forget itself and its own master.
    pub async fn forget(&mut self, id: &NodeId) -> Result<(), AdminError> {
        match self.order("CLUSTER FORGET", &["CLUSTER", "FORGET", &id.to_string()]).await {
            Err(AdminError::Refused { message, .. }) if message.contains("Unknown node") => Ok(()),
            outcome => outcome,
        }
    }

    async fn order(&mut self, operation: &str, command: &[&str]) -> Result<(), AdminError> {
        self.resp.call(operation, command).await.map(|_| ())
    }

    /// The texts that answer commands sent together.
    async fn ask(&mut self, operation: &str, commands: &[&[&str]]) -> Result<Vec<String>, AdminError> {
        let replies = self.resp.pipeline(operation, commands).await?;
        let text = |reply| match reply {
            Reply::Error(message) => Err(self.resp.refused(operation, message)),
            Reply::Bulk(Some(bytes)) => String::from_utf8(bytes)
                .map_err(|_| self.resp.unexpected(operation, "a reply that is no text")),
            Reply::Status(_) | Reply::Number(_) | Reply::Bulk(None) | Reply::List(_) => {
                Err(self.resp.unexpected(operation, "a reply of another kind"))
            }
        };
        replies.into_iter().map(text).collect()
    }

    fn as_view(&self, texts: &[String]) -> Result<View, AdminError> {
        let [nodes, info] = texts else {
            return Err(self.resp.unexpected("CLUSTER NODES", "too few replies"));
        };
        View::parse(nodes, info).map_err(|source| AdminError::View { address: self.address(), source })
    }

    fn as_replication(&self, texts: &[String]) -> Result<Replication, AdminError> {
        Replication::parse(&texts.concat())
            .map_err(|source| AdminError::Replication { address: self.address(), source })
    }
}
