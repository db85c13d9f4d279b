//! Maintenance: which machines will be unavailable and when, and machines that are down for it.

use std::collections::{BTreeMap, BTreeSet};

use overlord_mesos::v1::{FrameworkId, TimeInfo, Unavailability};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::{Answer, Model, removal::Removal, saved::Key};

/// `MachineID`
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, Default)]
pub(crate) struct MachineId {
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub(crate) hostname: String,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub(crate) ip: String,
}

/// `maintenance.Window`
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, Default)]
pub(crate) struct Window {
    #[serde(default)]
    pub(crate) machine_ids: Vec<MachineId>,
    #[serde(default)]
    pub(crate) unavailability: Unavailability,
}

/// `maintenance.Schedule`
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, Default)]
pub(crate) struct Schedule {
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) windows: Vec<Window>,
}

/// What the master knows of maintenance.
#[derive(Debug, Default)]
pub(crate) struct Maintenance {
    pub(crate) schedule: Schedule,
    unavailable: BTreeMap<MachineId, Unavailability>,
    down: BTreeSet<MachineId>,
    /// What frameworks said to it.
    answers: BTreeMap<(MachineId, FrameworkId), (&'static str, TimeInfo)>,
}

impl Maintenance {
    pub(super) fn is_empty(&self) -> bool {
        self.unavailable.is_empty()
    }

    /// `ClusterStatus`
    pub(crate) fn status(&self) -> Value {
        let mut status = serde_json::Map::new();
        let draining = self.unavailable.keys().filter(|machine| !self.down.contains(machine));
        let draining: Vec<Value> = draining.map(|machine| self.draining(machine)).collect();
        if !draining.is_empty() {
            status.insert("draining_machines".to_owned(), Value::Array(draining));
        }
        if !self.down.is_empty() {
            status.insert("down_machines".to_owned(), json!(self.down));
        }
        Value::Object(status)
    }

    fn draining(&self, machine: &MachineId) -> Value {
        let own = self.answers.iter().filter(|((answered, _), _)| answered == machine);
        let statuses: Vec<Value> = own
            .map(|((_, framework), (status, timestamp))| {
                json!({ "framework_id": framework, "status": status, "timestamp": timestamp })
            })
            .collect();
        let mut draining = json!({ "id": machine });
        if let (false, Some(fields)) = (statuses.is_empty(), draining.as_object_mut()) {
            fields.insert("statuses".to_owned(), Value::Array(statuses));
        }
        draining
    }
}

impl Model {
    pub(super) fn update_maintenance(&mut self, schedule: Schedule) -> Answer {
        if let Some(fault) = self.schedule_fault(&schedule) {
            return Answer::refused(400, fault);
        }
        let mut unavailable = BTreeMap::new();
        for window in &schedule.windows {
            for machine in &window.machine_ids {
                unavailable.insert(machine.clone(), window.unavailability);
            }
        }
        self.maintenance.unavailable = unavailable;
        self.maintenance.schedule = schedule;
        self.maintenance.answers.clear();
        self.note(Key::Maintenance);
        // Offers stand back, so that the next ones tell of the change; inverse offers are made anew. A master does so
        // with all machines, whether their schedule changes or not.
        let names: Vec<String> = self.agents.keys().cloned().collect();
        for name in names {
            self.rescind_all(&name);
            self.rescind_inverse_offers(&name);
        }
        self.allocate();
        Answer::Done(Value::Null)
    }

    fn schedule_fault(&self, schedule: &Schedule) -> Option<String> {
        let mut seen = BTreeSet::new();
        for window in &schedule.windows {
            if window.machine_ids.is_empty() {
                return Some("List of machines in the maintenance window is empty".to_owned());
            }
            if window.unavailability.duration.is_some_and(|duration| duration.nanoseconds < 0) {
                return Some("Unavailability 'duration' is negative".to_owned());
            }
            for machine in &window.machine_ids {
                if let Some(fault) = machine_fault(machine) {
                    return Some(fault);
                }
                if !seen.insert(machine) {
                    return Some(format!(
                        "Machine '{}' appears more than once in the schedule",
                        json!(machine)
                    ));
                }
            }
        }
        let kept = |machine: &&MachineId| !seen.contains(*machine);
        let missing = self.maintenance.down.iter().find(kept)?;
        Some(format!("Machine '{}' is deactivated and cannot be removed from the schedule", json!(missing)))
    }

    pub(super) fn start_maintenance(&mut self, machines: &[MachineId]) -> Answer {
        if let Some(fault) = machines_fault(machines) {
            return Answer::refused(400, fault);
        }
        for machine in machines {
            let text = if !self.maintenance.unavailable.contains_key(machine) {
                "is not part of a maintenance schedule"
            } else if self.maintenance.down.contains(machine) {
                "is not in DRAINING mode and cannot be brought down"
            } else {
                continue;
            };
            return Answer::refused(400, format!("Machine '{}' {text}", json!(machine)));
        }
        for machine in machines {
            self.maintenance.down.insert(machine.clone());
            let names: Vec<String> = self
                .agents
                .iter()
                .filter(|(_, agent)| agent.machine() == *machine)
                .map(|(name, _)| name.clone())
                .collect();
            for name in names {
                self.remove_agent(&name, Removal::MachineDown);
                self.rescind_inverse_offers(&name);
            }
        }
        self.note(Key::Maintenance);
        Answer::Done(Value::Null)
    }

    pub(super) fn stop_maintenance(&mut self, machines: &[MachineId]) -> Answer {
        if let Some(fault) = machines_fault(machines) {
            return Answer::refused(400, fault);
        }
        for machine in machines {
            let text = if !self.maintenance.unavailable.contains_key(machine) {
                "is not part of a maintenance schedule"
            } else if !self.maintenance.down.contains(machine) {
                "is not in DOWN mode and cannot be brought up"
            } else {
                continue;
            };
            return Answer::refused(400, format!("Machine '{}' {text}", json!(machine)));
        }
        for machine in machines {
            self.maintenance.down.remove(machine);
            self.maintenance.unavailable.remove(machine);
            self.maintenance.answers.retain(|(answered, _), _| answered != machine);
        }
        for window in &mut self.maintenance.schedule.windows {
            window.machine_ids.retain(|machine| !machines.contains(machine));
        }
        self.maintenance.schedule.windows.retain(|window| !window.machine_ids.is_empty());
        self.note(Key::Maintenance);
        Answer::Done(Value::Null)
    }

    /// When an agent's machine will not be there.
    pub(super) fn unavailability_of(&self, name: &str) -> Option<Unavailability> {
        if self.maintenance.is_empty() {
            return None;
        }
        self.maintenance.unavailable.get(&self.agents.get(name)?.machine()).copied()
    }

    /// The agent's machine, as JSON, if maintenance is planned for it.
    pub(super) fn scheduled_machine(&self, name: &str) -> Option<Value> {
        self.unavailability_of(name)?;
        Some(json!(self.agents.get(name)?.machine()))
    }

    pub(super) fn note_maintenance_answer(&mut self, name: &str, id: &FrameworkId, status: &'static str) {
        let Some(machine) = self.agents.get(name).map(super::Agent::machine) else { return };
        let timestamp = self.time_info(self.now);
        self.maintenance.answers.insert((machine, id.clone()), (status, timestamp));
    }
}

impl super::Agent {
    pub(crate) fn machine(&self) -> MachineId {
        MachineId { hostname: self.hostname.clone(), ip: self.address.ip().to_string() }
    }
}

fn machines_fault(machines: &[MachineId]) -> Option<String> {
    if machines.is_empty() {
        return Some("List of machines is empty".to_owned());
    }
    let mut seen = BTreeSet::new();
    machines.iter().find_map(|machine| {
        machine_fault(machine).or_else(|| {
            (!seen.insert(machine))
                .then(|| format!("Machine '{}' appears more than once in the schedule", json!(machine)))
        })
    })
}

fn machine_fault(machine: &MachineId) -> Option<String> {
    (machine.hostname.is_empty() && machine.ip.is_empty())
        .then(|| "Both 'hostname' and 'ip' for a machine are empty".to_owned())
}
