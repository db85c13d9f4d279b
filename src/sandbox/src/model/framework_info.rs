//! What a `FrameworkInfo` may say, and how it may change.

use std::collections::BTreeSet;

use overlord_mesos::v1::{CapabilityType, FrameworkId, FrameworkInfo, OfferId, scheduler::UpdateFramework};
use serde_json::Value;

use super::{Answer, Model, roles, saved::Key};

impl Model {
    /// `UPDATE_FRAMEWORK`: the info changes in place, without a new subscription.
    pub(super) fn update_framework(&mut self, id: &FrameworkId, update: UpdateFramework) -> Answer {
        let UpdateFramework { framework_info, suppressed_roles } = update;
        if let Some(why) = fault(&framework_info) {
            return Answer::refused(400, format!("Supplied FrameworkInfo is not valid: {why}"));
        }
        let Some(framework) = self.frameworks.get_mut(id) else {
            return Answer::refused(400, "Framework cannot be found");
        };
        if let Some(why) = change_fault(&framework.info, &framework_info) {
            return Answer::refused(400, format!("FrameworkInfo update is not valid: {why}"));
        }
        let roles = self::roles(&framework_info);
        if let Some(why) = suppression_fault(&roles, &suppressed_roles) {
            return Answer::refused(400, format!("'UpdateFramework' call is not valid: {why}"));
        }
        let changed = framework.info != framework_info;
        framework.info = framework_info;
        framework.roles = roles;
        framework.suppressed = suppressed_roles.into_iter().collect();
        let gone: Vec<OfferId> = framework
            .offers
            .iter()
            .filter(|offer| self.offers.get(*offer).is_some_and(|open| !framework.roles.contains(&open.role)))
            .cloned()
            .collect();
        self.note(Key::Framework(id.clone()));
        for offer in gone {
            self.rescind(&offer);
        }
        if changed {
            self.tell_operators("FRAMEWORK_UPDATED", |model| model.framework_event(id));
        }
        self.allocate();
        Answer::Done(Value::Null)
    }
}

/// The roles a framework asks offers for.
pub(super) fn roles(info: &FrameworkInfo) -> Vec<String> {
    if is_multi_role(info) {
        info.roles.clone()
    } else {
        vec![info.role.clone().unwrap_or_else(|| "*".to_owned())]
    }
}

fn is_multi_role(info: &FrameworkInfo) -> bool {
    info.capabilities.iter().any(|c| c.kind == CapabilityType::MultiRole)
}

/// What is wrong with a `FrameworkInfo`, in the words of the master.
pub(super) fn fault(info: &FrameworkInfo) -> Option<String> {
    let multi_role = is_multi_role(info);
    if multi_role && info.role.is_some() {
        let text = "'FrameworkInfo.role' must not be set when the framework is MULTI_ROLE capable";
        return Some(text.to_owned());
    }
    if !multi_role && !info.roles.is_empty() {
        let text = "'FrameworkInfo.roles' must not be set when the framework is not MULTI_ROLE capable";
        return Some(text.to_owned());
    }
    let mut seen = BTreeSet::new();
    let doubled: BTreeSet<&str> =
        info.roles.iter().map(String::as_str).filter(|role| !seen.insert(*role)).collect();
    if !doubled.is_empty() {
        let list: Vec<&str> = doubled.into_iter().collect();
        return Some(format!("'FrameworkInfo.roles' contains duplicate items: {{ {} }}", list.join(", ")));
    }
    for role in &info.roles {
        if let Some(why) = roles::fault(role) {
            return Some(format!("'FrameworkInfo.roles' contains invalid role: {why}"));
        }
    }
    if let Some(why) = info.role.as_deref().and_then(roles::fault) {
        return Some(format!("'FrameworkInfo.role' is not a valid role: {why}"));
    }
    if let Some(id) = info.id.as_ref().filter(|id| !id.as_str().is_empty())
        && let Err(why) = super::accept::id_fault(id.as_str())
    {
        return Some(why);
    }
    let timeout = info.failover_timeout.unwrap_or(0.0);
    // Mesos counts nanoseconds in 64 bits.
    if timeout.is_nan() || timeout.abs() > i64::MAX as f64 / 1e9 {
        return Some(format!("The framework failover_timeout ({}) is invalid", exponent(timeout)));
    }
    None
}

/// What of an info must not change while the framework lives.
fn change_fault(old: &FrameworkInfo, new: &FrameworkInfo) -> Option<String> {
    if old.principal != new.principal {
        return Some(PRINCIPAL_CHANGED.to_owned());
    }
    if old.user != new.user {
        return Some(format!(
            "Updating 'FrameworkInfo.user' is unsupported; attempted to update from '{}' to '{}'",
            old.user, new.user
        ));
    }
    let (was, is) = (old.checkpoint.unwrap_or(false), new.checkpoint.unwrap_or(false));
    (was != is).then(|| {
        format!(
            "Updating 'FrameworkInfo.checkpoint' is unsupported; attempted to update from '{was}' to '{is}'"
        )
    })
}

pub(super) const PRINCIPAL_CHANGED: &str = "Changing framework's principal is not allowed.";

/// Suppressed roles must be roles of the framework.
pub(super) fn suppression_fault(roles: &[String], suppressed: &[String]) -> Option<String> {
    let foreign: BTreeSet<&str> =
        suppressed.iter().filter(|role| !roles.contains(role)).map(String::as_str).collect();
    let list: Vec<&str> = foreign.into_iter().collect();
    (!list.is_empty())
        .then(|| format!("Suppressed roles {{ {} }} are not contained in the set of roles", list.join(", ")))
}

/// A large number as C++ prints it: `1e+30`.
fn exponent(number: f64) -> String {
    format!("{number:e}").replace('e', "e+")
}
