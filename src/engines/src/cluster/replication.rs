//! What one node says of its copy of the data: whose replica it is, how far it is, and whether it ever had
//! its master's data in this life of its process.

/// The answers of one node to `INFO`, as far as they speak of replication.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[expect(clippy::struct_excessive_bools, reason = "each is a field of INFO")]
pub struct Replication {
    /// It copies a master. After a start a node says so with its first tick, a tenth of a second later.
    pub is_replica: bool,
    /// How many bytes of the stream of writes it has: of a master, or those a replica has of its master's.
    pub offset: u64,
    /// A replica's link is up: it had a full copy, and follows.
    pub link_up: bool,
    /// For how long the link has been down; none when it is up, and when it never was up.
    pub link_down_seconds: Option<u64>,
    /// A copy of the whole data is on its way.
    pub syncing: bool,
    /// It reads its data from disk.
    pub loading: bool,
    /// For how long its process has run.
    pub uptime_seconds: u64,
    /// Replicas that are connected to it.
    pub connected_replicas: u64,
    /// How many syncs it gave to replicas of its own in this life: it was a master then.
    pub syncs_served: u64,
    /// Keys in all databases.
    pub keys: u64,
}

/// For how many seconds a replica may have been without its master before that died, and still is taken to have
/// followed it: restarts and short partitions of the network are shorter.
const STALE: u64 = 600;

/// An answer to `INFO` that is none.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("INFO has no usable {0}")]
pub struct ReplicationError(pub &'static str);

impl Replication {
    /// Reads the sections `replication`, `server`, `stats`, `persistence` and `keyspace`, in any order, of redis
    /// 4.0 to 7.2.
    pub fn parse(info: &str) -> Result<Self, ReplicationError> {
        let field = |name: &'static str| {
            info.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':')).map(str::trim_ascii)
        };
        let signed = |name: &'static str| field(name).and_then(|value| value.parse::<i64>().ok());
        let count = |name: &'static str| signed(name).map(|value| u64::try_from(value).unwrap_or(0));
        let need = |name: &'static str| count(name).ok_or(ReplicationError(name));
        let is_replica = match field("role") {
            Some("slave") => true,
            Some("master") => false,
            _ => return Err(ReplicationError("role")),
        };
        let offset = if is_replica { "slave_repl_offset" } else { "master_repl_offset" };
        let uptime_seconds = need("uptime_in_seconds")?;
        let link_up = is_replica && field("master_link_status") == Some("up");
        // A link that never was up is down for -1 s (7.0), or since 1970 (before).
        let down = signed("master_link_down_since_seconds").and_then(|value| u64::try_from(value).ok());
        Ok(Self {
            is_replica,
            offset: need(offset)?,
            link_up,
            link_down_seconds: down.filter(|down| is_replica && !link_up && *down <= uptime_seconds),
            syncing: is_replica && field("master_sync_in_progress") == Some("1"),
            loading: field("loading") == Some("1"),
            uptime_seconds,
            connected_replicas: need("connected_slaves")?,
            syncs_served: need("sync_full")?.saturating_add(need("sync_partial_ok")?),
            keys: keys(info),
        })
    }

    /// Whether this process, since it was started, had its master's data over the link. A replica that had not
    /// is empty, or has what its own disk had, whatever its offset says.
    pub const fn linked_in_this_life(&self) -> bool {
        self.is_replica && (self.link_up || self.link_down_seconds.is_some())
    }

    /// Whether a replica holds the data of a master that died so many seconds ago: it followed it until then, give or
    /// take ten minutes. One that lost its link long before holds what there was then.
    pub fn followed_until(&self, dead_for: u64) -> bool {
        let down = self.link_down_seconds.unwrap_or(0);
        self.holds_data() && down <= dead_for.saturating_add(STALE)
    }

    /// Whether a replica holds its shard's data: it was linked in this life, or was the shard's master in this life
    /// and was not linked yet since (seen right after a failover back). Such a one may be promoted.
    pub const fn holds_data(&self) -> bool {
        self.linked_in_this_life() || (self.is_replica && self.syncs_served > 0)
    }
}

/// Keys of all databases, from the lines of the section `keyspace`.
pub(crate) fn keys(info: &str) -> u64 {
    // db0:keys=3,expires=0,avg_ttl=0
    let keys = |line: &str| -> Option<u64> {
        line.strip_prefix("db")?.split_once(":keys=")?.1.split(',').next()?.parse().ok()
    };
    info.lines().filter_map(keys).fold(0, u64::saturating_add)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const MASTER: &str = "# Replication\r\nrole:master\r\nconnected_slaves:1\r\n\
        slave0:ip=127.0.0.1,port=7104,state=online,offset=1288,lag=0\r\nmaster_repl_offset:1288\r\n\
        # Server\r\nuptime_in_seconds:17\r\n# Stats\r\nsync_full:1\r\nsync_partial_ok:2\r\n\
        # Persistence\r\nloading:0\r\n# Keyspace\r\ndb0:keys=3,expires=0,avg_ttl=0\r\ndb1:keys=4,expires=0,avg_ttl=0\r\n";

    const REPLICA: &str = "role:slave\r\nmaster_link_status:down\r\nmaster_sync_in_progress:0\r\n\
        slave_repl_offset:1288\r\nmaster_link_down_since_seconds:5\r\nconnected_slaves:0\r\n\
        master_repl_offset:1288\r\nuptime_in_seconds:17\r\nsync_full:0\r\nsync_partial_ok:0\r\nloading:0\r\n";

    fn replica(change: (&str, &str)) -> Replication {
        let text = REPLICA.replace(change.0, change.1);
        assert!(text != REPLICA || change.0 == change.1);
        Replication::parse(&text).unwrap()
    }

    #[test]
    fn a_replica_that_lost_its_link_long_before_did_not_follow_its_master() {
        let mut replica = Replication::parse(REPLICA).unwrap();
        (replica.uptime_seconds, replica.link_down_seconds) = (20_000, Some(10_800));
        assert!(replica.holds_data() && !replica.followed_until(3));
        assert!(replica.followed_until(10_500));
        replica.link_down_seconds = Some(4);
        assert!(replica.followed_until(3));
    }

    #[test]
    fn a_master_says_what_it_has_and_whom_it_served() {
        let master = Replication::parse(MASTER).unwrap();
        let said = (master.is_replica, master.offset, master.connected_replicas, master.syncs_served);
        assert_eq!((said, master.keys, master.uptime_seconds), ((false, 1288, 1, 3), 7, 17));
        assert!(!master.linked_in_this_life() && !master.holds_data());
    }

    #[test]
    fn a_replica_was_linked_in_this_life_when_its_link_is_up_or_broke_since_the_start() {
        let broken = replica(("", ""));
        assert_eq!((broken.offset, broken.link_down_seconds), (1288, Some(5)));
        assert!(broken.linked_in_this_life());
        assert!(replica(("seconds:5", "seconds:0")).linked_in_this_life());
        assert!(replica(("seconds:5", "seconds:17")).linked_in_this_life());
        // Never, as redis 7.0 and as older ones say it.
        assert!(!replica(("since_seconds:5", "since_seconds:-1")).linked_in_this_life());
        assert!(!replica(("since_seconds:5", "since_seconds:1700000000")).linked_in_this_life());
        let up = replica(("status:down", "status:up"));
        assert!(up.link_up && up.linked_in_this_life() && up.link_down_seconds.is_none());
    }

    #[test]
    fn a_replica_that_was_the_master_a_moment_ago_holds_the_data() {
        let demoted = REPLICA.replace("since_seconds:5", "since_seconds:-1");
        let demoted = demoted.replace("sync_full:0", "sync_full:1");
        let demoted = Replication::parse(&demoted).unwrap();
        assert!(!demoted.linked_in_this_life() && demoted.holds_data());
    }

    #[test]
    fn what_is_missing_is_named() {
        for name in ["role", "uptime_in_seconds", "connected_slaves", "sync_full", "master_repl_offset"] {
            let without: String =
                MASTER.lines().filter(|line| !line.starts_with(name)).collect::<Vec<_>>().join("\n");
            assert_eq!(Replication::parse(&without), Err(ReplicationError(name)));
        }
        assert_eq!(Replication::parse("role:sentinel"), Err(ReplicationError("role")));
    }

    proptest! {
        #[test]
        fn no_answer_makes_it_panic(text in ".{0,200}", at in 0..600_usize, insert in ".{0,8}") {
            let _ = Replication::parse(&text);
            let mut text = REPLICA.to_owned();
            text.insert_str(at.min(text.len()), &insert);
            if let Ok(replication) = Replication::parse(&text) {
                prop_assert!(replication.link_down_seconds.is_none_or(|down| down <= replication.uptime_seconds));
            }
        }
    }
}
