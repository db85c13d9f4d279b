//! The scripts. Nodes `n0`, `n1`, ... begin as masters, those after them as their replicas, in the same order.

mod data;
mod failover;
mod membership;
mod restart;
mod vote;

use crate::Script;

macro_rules! scripts {
    ($($module:ident: $($name:ident),+;)+) => {
        &[$($(Script { name: stringify!($name), run: |stage| Box::pin($module::$name(stage)) }),+),+]
    };
}

pub(crate) const ALL: &[Script] = scripts! {
    failover: master_killed, forced, taken_over, in_agreement, hung_master_returns, stopped_replica_hears_last_words, two_replicas,
        never_linked, full_coverage_off, hung_replica, old_votes;
    vote: two_of_four_masters, masters_return, equal_epochs, no_failover, data_too_old;
    restart: stale_nodes_conf, promoted_master_from_its_seed, old_dump, empty_master, nodes_conf_that_crashes,
        all_at_once, moved_to_another_address;
    membership: forgotten, foreign_cluster, a_new_node, address_of_another;
    data: replica_shut_down, snapshot, append_only_file, refusals;
};
