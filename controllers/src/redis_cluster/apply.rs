//! Effects on the nodes of a cluster: orders go out over connections that are fenced and were opened before
//! the leadership was verified.

use std::{collections::BTreeMap, time::Duration};

use futures::{StreamExt as _, stream};
use overlord_api::{Address, ClusterName, EventLevel};

use super::{IN_A_ROW, observed::Command};
use crate::{
    events::Happening,
    ledger::LedgerError,
    members::{plan::HandOver, step::Order},
    shared::Shared,
};

/// Nodes told at once.
const TOLD_AT_ONCE: usize = 32;

/// All connections together may take so long to open. Those that are not open by then are told nothing in this pass.
const OPENING: Duration = Duration::from_secs(10);

/// Gives all `orders`, each node's in their order. What a node does not take is told, and the next look
/// decides anew.
pub(crate) async fn give(
    shared: &Shared,
    cluster: &ClusterName,
    orders: &[&Order],
) -> Result<(), LedgerError> {
    if orders.is_empty() {
        return Ok(());
    }
    // A shard without a master waits for no other node's connection.
    let is_failover = |order: &&&Order| {
        matches!(order.command, Command::Failover { .. } | Command::TakeOver | Command::BumpEpoch)
    };
    let (first, rest): (Vec<&Order>, Vec<&Order>) =
        orders.iter().copied().partition(|order| is_failover(&order));
    for orders in [first, rest] {
        if !orders.is_empty() {
            give_to(shared, cluster, &orders).await?;
        }
    }
    Ok(())
}

async fn give_to(shared: &Shared, cluster: &ClusterName, orders: &[&Order]) -> Result<(), LedgerError> {
    let mut by_node: BTreeMap<Address, Vec<Order>> = BTreeMap::new();
    for order in orders {
        by_node.entry(order.address).or_default().push((*order).clone());
    }
    let epoch = shared.ledger.fence.epoch();
    let opened: Vec<_> = stream::iter(by_node)
        .map(|(address, orders)| async move { (orders, shared.engines.open(address, epoch).await) })
        .buffer_unordered(TOLD_AT_ONCE)
        .take_until(tokio::time::sleep(OPENING))
        .collect()
        .await;
    // A leader that was paused between looking and telling finds here that it leads no more.
    shared.ledger.verify().await?;
    stream::iter(opened)
        .for_each_concurrent(TOLD_AT_ONCE, |(orders, opened)| async move {
            let mut commander = match opened {
                Ok(commander) => commander,
                Err(why) => {
                    tracing::debug!(%cluster, why, "a node cannot be told anything");
                    return;
                }
            };
            for order in orders {
                let Ok(outcome) = shared.gate.pass(commander.run(&order.command)).await else {
                    tracing::warn!(%cluster, "this controller leads no more: an order is not given");
                    return;
                };
                let force = match &order.command {
                    Command::Failover { force } => Some(*force),
                    Command::TakeOver => Some(true),
                    Command::BumpEpoch
                    | Command::Meet { .. }
                    | Command::Replicate { .. }
                    | Command::Forget { .. } => None,
                };
                if let (Some(force), Ok(())) = (force, &outcome) {
                    remember(shared, cluster, &order, force);
                }
                tell(shared, cluster, &order, outcome.err());
            }
        })
        .await;
    Ok(())
}

/// What was ordered, and since when without effect.
fn remember(shared: &Shared, cluster: &ClusterName, order: &Order, force: bool) {
    let now = shared.clock.now();
    shared.memo(cluster, |memo| {
        let before = memo
            .sent
            .failovers
            .get(&order.mesos_task_id)
            .filter(|before| before.force == force && now.duration_since(before.at) < IN_A_ROW);
        let first = before.map_or(now, |before| before.first);
        memo.sent.failovers.insert(order.mesos_task_id.clone(), HandOver { at: now, first, force });
    });
}

fn tell(shared: &Shared, cluster: &ClusterName, order: &Order, failed: Option<String>) {
    let step = crate::members::step::Step::Order(order.clone());
    if let Some(why) = failed {
        tracing::warn!(%cluster, %step, why, "an order was not taken");
        return;
    }
    tracing::info!(%cluster, %step, "ordered");
    let (reason, level) = match &order.command {
        Command::Failover { force: true } => ("FailoverOrdered", EventLevel::Warning),
        Command::Failover { force: false } => ("FailoverOrdered", EventLevel::Normal),
        Command::TakeOver => ("TakeOverOrdered", EventLevel::Warning),
        Command::BumpEpoch => ("EpochBumpOrdered", EventLevel::Warning),
        Command::Replicate { .. } => ("ReplicateOrdered", EventLevel::Normal),
        Command::Meet { .. } | Command::Forget { .. } => return,
    };
    let object = format!("member/{}", order.member);
    shared.events.record(cluster.as_str(), Happening { object, reason, level, message: step.to_string() });
}
