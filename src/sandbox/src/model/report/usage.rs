//! Who uses what, and is offered what: added up from the books for one report.

use std::collections::BTreeMap;

use overlord_mesos::v1::{AgentId, FrameworkId, Resource};
use serde_json::{Map, Value, json};

use crate::model::{
    Model,
    pool::{Format, Pool},
};

/// Resources by the role they are allocated to.
#[derive(Debug, Default, Clone)]
pub(crate) struct ByRole(BTreeMap<String, Pool>);

impl ByRole {
    fn add(&mut self, role: &str, pool: &Pool) {
        self.0.entry(role.to_owned()).or_default().add(pool);
    }

    /// All of it, whatever the role.
    pub(crate) fn sum(&self) -> Pool {
        let mut sum = Pool::default();
        for pool in self.0.values() {
            sum.add(pool);
        }
        sum
    }

    pub(crate) fn role(&self, role: &str) -> Pool {
        self.0.get(role).cloned().unwrap_or_default()
    }

    /// With both forms of reservations, as operators see them.
    pub(crate) fn full(&self) -> Vec<Resource> {
        self.0.iter().flat_map(|(role, pool)| pool.to_wire(Some(role), Format::Both)).collect()
    }
}

/// What is used and what is offered.
#[derive(Debug, Default, Clone)]
pub(crate) struct Uses {
    pub(crate) used: ByRole,
    pub(crate) offered: ByRole,
}

/// Uses by agent, by framework, and in all.
#[derive(Debug, Default)]
pub(crate) struct Tally {
    agents: BTreeMap<AgentId, Uses>,
    frameworks: BTreeMap<FrameworkId, Uses>,
    pub(crate) all: Uses,
}

impl Tally {
    pub(crate) fn of(model: &Model) -> Self {
        let mut tally = Self::default();
        for ((framework, _), task) in &model.tasks {
            if !task.released && !task.forgotten && task.unreachable_since.is_none() {
                tally.use_up(&task.agent, framework, &task.role, &task.pool);
            }
        }
        for agent in model.agents.values() {
            for ((framework, _), executor) in &agent.executors {
                tally.use_up(&agent.id, framework, &executor.role, &executor.pool);
            }
        }
        for offer in model.offers.values() {
            let Some(agent) = model.agents.get(&offer.agent) else { continue };
            tally.agents.entry(agent.id.clone()).or_default().offered.add(&offer.role, &offer.pool);
            let framework = tally.frameworks.entry(offer.framework.clone()).or_default();
            framework.offered.add(&offer.role, &offer.pool);
            tally.all.offered.add(&offer.role, &offer.pool);
        }
        tally
    }

    fn use_up(&mut self, agent: &AgentId, framework: &FrameworkId, role: &str, pool: &Pool) {
        self.agents.entry(agent.clone()).or_default().used.add(role, pool);
        self.frameworks.entry(framework.clone()).or_default().used.add(role, pool);
        self.all.used.add(role, pool);
    }

    pub(crate) fn agent(&self, id: &AgentId) -> Uses {
        self.agents.get(id).cloned().unwrap_or_default()
    }

    pub(crate) fn framework(&self, id: &FrameworkId) -> Uses {
        self.frameworks.get(id).cloned().unwrap_or_default()
    }
}

/// Resources as the older endpoints write them: `{"cpus": 8.0, "ports": "[1-2]"}`.
pub(crate) fn model(pool: &Pool) -> Value {
    let mut fields = Map::new();
    for name in ["disk", "mem", "gpus", "cpus"] {
        fields.insert(name.to_owned(), json!(pool.scalar(name) as f64 / 1000.0));
    }
    for resource in merged(pool) {
        if let Some(scalar) = resource.scalar {
            fields.entry(resource.name).or_insert_with(|| json!(scalar.value));
        } else if let Some(ranges) = resource.ranges {
            let texts: Vec<String> = ranges.range.iter().map(|r| format!("{}-{}", r.begin, r.end)).collect();
            fields.insert(resource.name, json!(format!("[{}]", texts.join(", "))));
        } else if let Some(set) = resource.set {
            fields.insert(resource.name, json!(format!("{{{}}}", set.item.join(", "))));
        }
    }
    Value::Object(fields)
}

/// Quantities: ranges count their numbers.
pub(crate) fn quantities(pool: &Pool) -> Value {
    let mut fields = Map::new();
    for resource in merged(pool) {
        let amount = match (resource.scalar, resource.ranges) {
            (Some(scalar), _) => scalar.value,
            (_, Some(ranges)) => ranges.range.iter().map(|r| (r.end - r.begin + 1) as f64).sum(),
            _ => continue,
        };
        fields.insert(resource.name, json!(amount));
    }
    Value::Object(fields)
}

/// Without marks: reserved and unreserved ones add up.
fn merged(pool: &Pool) -> Vec<Resource> {
    pool.remarked(|_| crate::model::pool::Marks::default()).to_wire(None, Format::Stack)
}
